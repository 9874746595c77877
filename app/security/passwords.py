"""Password hashes: `bcrypt_sha256`. Plain bcrypt hashes from older tables are rehashed at the next login."""

import logging
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from passlib.context import CryptContext

MAX_PASSWORD_BYTES = 1024

# passlib reads a version attribute that bcrypt 4.1 removed, and logs a harmless error.
logging.getLogger("passlib.handlers.bcrypt").setLevel(logging.ERROR)


def normalize_password(password: str) -> str:
    """Unicode NFC, so that every keyboard gives the same bytes for a password."""
    return unicodedata.normalize("NFC", password)


@dataclass(frozen=True)
class PasswordHasher:
    """`rounds` is bcrypt's cost: the base-2 logarithm of the iterations. Passwords must be normalized."""

    rounds: int

    def hash(self, password: str) -> str:
        return self._context.hash(password)

    def verify(self, password: str, hashed: str | None) -> bool:
        """Takes the same time with and without a hash."""
        try:
            return self._context.verify(password, hashed or self._decoy_hash) and hashed is not None
        except ValueError:  # not a supported hash: no password matches it
            return self._context.verify(password, self._decoy_hash)

    def is_hash(self, text: str) -> bool:
        """Whether `verify` supports this hash."""
        handler = self._context.identify(text, resolve=True)
        try:
            return handler is not None and bool(handler.from_string(text).checksum)
        except ValueError:
            return False

    def is_outdated(self, hashed: str) -> bool:
        return self._context.needs_update(hashed)

    @cached_property
    def _context(self) -> CryptContext:
        return CryptContext(
            schemes=["bcrypt_sha256", "bcrypt"],
            deprecated=["bcrypt"],
            bcrypt_sha256__default_rounds=self.rounds,
            bcrypt_sha256__min_rounds=self.rounds,
        )

    @cached_property
    def _decoy_hash(self) -> str:
        return f"$bcrypt-sha256$v=2,t=2b,r={self.rounds}${'.' * 22}${'.' * 31}"
