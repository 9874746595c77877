"""Rules for new passwords."""

from dataclasses import dataclass

from app.errors import PasswordTooShort
from app.security.passwords import normalize_password


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """`min_length` is in characters after normalization."""

    min_length: int

    def check(self, password: str, field: str = "password") -> None:
        """`field` is the name of the password's field in the request. Raises PasswordTooShort."""
        if len(normalize_password(password)) < self.min_length:
            raise PasswordTooShort(self.min_length, field)
