"""Derives keys from SECRET_KEY: one for each purpose, under a label of its own."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_REFRESH_LABEL = b"kanban-auth refresh token v1"


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Sibling services also have `access`; only this service uses `refresh`."""

    algorithm: str
    issuer: str
    audience: str | None
    access: bytes = field(repr=False)
    refresh: bytes = field(repr=False)


def derive(secret_key: str, label: bytes) -> bytes:
    """32 bytes of HKDF-SHA256 (RFC 5869), with `label` as its `info`."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=label).derive(secret_key.encode())


def derive_keys(secret_key: str, *, algorithm: str, issuer: str, audience: str | None) -> TokenKeys:
    refresh = derive(secret_key, _REFRESH_LABEL)
    return TokenKeys(algorithm, issuer, audience, access=secret_key.encode(), refresh=refresh)
