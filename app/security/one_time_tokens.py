"""One-time tokens: random secrets in the links of mails."""

import hashlib
import secrets
from typing import Final

_BYTES: Final = 32


def new_one_time_token() -> str:
    """256 random bits in base64url."""
    return secrets.token_urlsafe(_BYTES)


def hash_one_time_token(token: str) -> bytes:
    """SHA-256. A random token needs no slow hash: there is nothing to guess."""
    return hashlib.sha256(token.encode()).digest()
