"""Password hashes: `bcrypt_sha256`. Plain bcrypt hashes from older tables are rehashed at the next login."""

import logging
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from passlib.context import CryptContext

MAX_PASSWORD_BYTES = 1024
_BYTES_OF_PLAIN_BCRYPT: Final = 72
_HIGHEST_COST_ABOVE_ROUNDS: Final = 2

# passlib reads a version attribute that bcrypt 4.1 removed, and logs a harmless error.
logging.getLogger("passlib.handlers.bcrypt").setLevel(logging.ERROR)


def normalize_password(password: str) -> str:
    """Unicode NFC, so that every keyboard gives the same bytes for a password."""
    return unicodedata.normalize("NFC", password)


@dataclass(frozen=True)
class PasswordHasher:
    """`rounds` is bcrypt's cost: the base-2 logarithm of the iterations. Passwords must be normalized."""

    rounds: int

    @property
    def highest_cost(self) -> int:
        """Of an imported hash: each one more doubles the time that a core is busy with a login."""
        return self.rounds + _HIGHEST_COST_ABOVE_ROUNDS

    def hash(self, password: str) -> str:
        return self._context.hash(password)

    def verify(self, password: str, hashed: str | None) -> bool:
        """Computes 2**rounds iterations; more only if the hash itself costs more."""
        cost = None if hashed is None else self.cost_of(hashed)
        if hashed is None or cost is None:
            self._verify_decoy(password, self.rounds)
            return False
        matches = self._context.verify(password, hashed)
        for missing in range(cost, self.rounds):  # 2**cost + 2**cost + 2**(cost + 1) + ... = 2**rounds
            self._verify_decoy(password, missing)
        return matches

    def cost_of(self, hashed: str) -> int | None:
        """None if `verify` does not support this hash."""
        handler = self._context.identify(hashed, resolve=True)
        try:
            parsed = handler and handler.from_string(hashed)
        except ValueError:
            return None
        return int(parsed.rounds) if parsed and parsed.checksum else None

    def needs_rehash(self, password: str, hashed: str) -> bool:
        """Whether a hash that this password matches is weaker than a new one.

        Never for plain bcrypt and 72 bytes or more: the hash matches each longer password too, and a
        new hash would turn away its owner, if theirs is another one.
        """
        plain = self._context.identify(hashed) == "bcrypt"
        if plain and len(password.encode()) >= _BYTES_OF_PLAIN_BCRYPT:
            return False
        return self._context.needs_update(hashed)

    @cached_property
    def _context(self) -> CryptContext:
        return CryptContext(
            schemes=["bcrypt_sha256", "bcrypt"],
            deprecated=["bcrypt"],
            bcrypt_sha256__default_rounds=self.rounds,
            bcrypt_sha256__min_rounds=self.rounds,
        )

    def _verify_decoy(self, password: str, cost: int) -> None:
        self._context.verify(password, f"$bcrypt-sha256$v=2,t=2b,r={cost}${'.' * 22}${'.' * 31}")
