"""Service tokens: random secrets that sibling services and scrapers show; they belong to no user."""

import hashlib
import secrets
from typing import Final

PREFIX: Final = "kas_"
_BYTES: Final = 32


def new_service_token() -> str:
    """The prefix, and 256 random bits in base64url."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def hash_service_token(token: str) -> str:
    """SHA-256 in hexadecimal. A random token needs no slow hash: there is nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()
