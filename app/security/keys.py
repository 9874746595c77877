"""Derives keys from SECRET_KEY: one for each purpose, under a label of its own.

Whoever has SECRET_KEY can compute all of them. It is this service's alone where siblings verify with
JWT_SECRET or with a public key; where JWT_SECRET is not set, they hold SECRET_KEY itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.security import jws

_REFRESH_LABEL: Final = b"kanban-auth refresh token v1"
_REFRESH_ALGORITHM: Final = "HS256"
_BRIDGE_ALGORITHM: Final = "HS256"
SHARED_ALGORITHMS: Final = ("HS256", "HS384", "HS512")


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The secrets that sign tokens. The first of each signs, and all of them verify.

    `shared` is for access tokens, and siblings have it too; it is empty where only public keys verify.
    Only this service uses `refresh`.
    """

    shared: tuple[jws.Key, ...] = field(repr=False)
    refresh: tuple[jws.Key, ...] = field(repr=False)


def derive(secret_key: str, label: bytes) -> bytes:
    """32 bytes of HKDF-SHA256 (RFC 5869), with `label` as its `info`."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=label).derive(secret_key.encode())


def derive_each(secret_keys: Sequence[str], label: bytes) -> tuple[bytes, ...]:
    """Of SECRET_KEY and its fallbacks: the first is for new things, the others are for old ones."""
    return tuple(derive(each, label) for each in secret_keys)


def token_keys(secret_keys: Sequence[str], jwt_secret: str | None, algorithm: str) -> TokenKeys:
    """`secret_keys` are SECRET_KEY and its fallbacks; `algorithm` is that of new access tokens."""
    refresh = derive_each(secret_keys, _REFRESH_LABEL)
    return TokenKeys(
        shared=_shared(secret_keys, jwt_secret, algorithm),
        refresh=tuple(jws.secret_key(each, _REFRESH_ALGORITHM) for each in refresh),
    )


def _shared(secret_keys: Sequence[str], jwt_secret: str | None, algorithm: str) -> tuple[jws.Key, ...]:
    if jwt_secret is not None:
        secret_keys = (jwt_secret,)
    elif algorithm not in SHARED_ALGORITHMS:
        return ()
    used = algorithm if algorithm in SHARED_ALGORITHMS else _BRIDGE_ALGORITHM
    return tuple(jws.secret_key(each.encode(), used) for each in secret_keys)
