"""Password hashes: `bcrypt_sha256`, and plain bcrypt of older tables until the next login."""

import logging
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from passlib.context import CryptContext

MAX_PASSWORD_BYTES = 1024

# passlib looks for a version attribute that bcrypt 4.1 dropped, reports that, and works.
logging.getLogger("passlib.handlers.bcrypt").setLevel(logging.ERROR)


def normalize_password(password: str) -> str:
    """NFC, so that a password typed on any keyboard gives the same bytes."""
    return unicodedata.normalize("NFC", password)


@dataclass(frozen=True)
class PasswordScheme:
    """`rounds` is the base-2 logarithm of the work, as in bcrypt. Passwords are taken normalized."""

    rounds: int

    def hash(self, password: str) -> str:
        return self._context.hash(password)

    def verify(self, password: str, hashed: str | None) -> bool:
        """Costs the same whether or not there is a hash to compare with."""
        try:
            return self._context.verify(password, hashed or self._nobodys_hash) and hashed is not None
        except ValueError:  # not a hash that we know: nobody has that password
            return self._context.verify(password, self._nobodys_hash)

    def is_hash(self, text: str) -> bool:
        """Whether it is a hash that `verify` understands."""
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
    def _nobodys_hash(self) -> str:
        return f"$bcrypt-sha256$v=2,t=2b,r={self.rounds}${'.' * 22}${'.' * 31}"
