"""Derives the keys for access and refresh tokens from SECRET_KEY."""

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


def derive_keys(secret_key: str, *, algorithm: str, issuer: str, audience: str | None) -> TokenKeys:
    """The refresh key is 32 bytes of HKDF-SHA256 (RFC 5869), with its own `info` label."""
    secret = secret_key.encode()
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=_REFRESH_LABEL)
    return TokenKeys(algorithm, issuer, audience, access=secret, refresh=kdf.derive(secret))
