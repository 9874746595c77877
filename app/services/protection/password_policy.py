"""Rules for new passwords."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from unicodedata import normalize

from app.errors import PasswordTooCommon, PasswordTooShort
from app.security.common_passwords import fold_password, is_common, strip_punctuation
from app.security.passwords import normalize_password

SERVICE_NAME: Final = "kanban"
_SHORTEST_WORD: Final = 4


@dataclass(frozen=True, slots=True)
class NewPassword:
    """`email` is the account's, normalized; `field_name` is the password's in the request."""

    text: str = field(repr=False)
    email: str
    field_name: str = "password"
    may_be_common: bool = False


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """`min_length` is in characters after normalization; `issuer` is a name of the service."""

    min_length: int
    blocklist: bool
    issuer: str

    def check(self, new: NewPassword) -> None:
        """Raises PasswordTooShort, PasswordTooCommon."""
        password = normalize_password(new.text)
        if len(password) < self.min_length:
            raise PasswordTooShort(self.min_length, new.field_name)
        if self.blocklist and not new.may_be_common and self._is_guessable(password, new.email):
            raise PasswordTooCommon(new.field_name)

    def _is_guessable(self, password: str, email: str) -> bool:
        if not password.strip():
            return True
        # Compatibility forms look the same and are typed the same: full-width letters, for example.
        spellings = {fold_password(password), fold_password(normalize("NFKC", password))}
        own = set(self._own_words(email))
        return any(is_common(each) or not _forms(each).isdisjoint(own) for each in spellings)

    def _own_words(self, email: str) -> Iterable[str]:
        """What a guesser tries first for this account."""
        local, _, domain = email.partition("@")
        readable = ".".join(map(_readable, domain.split(".")))
        emails = (email, f"{local}@{readable}")
        for text in (*emails, local, domain, readable, SERVICE_NAME, self.issuer):
            for word in (text, *re.split(r"[^\w-]+", text), *re.split(r"[\W_]+", text)):
                yield from _forms(fold_password(word))


def _forms(word: str) -> set[str]:
    """As it is, without punctuation around it, and its letters alone."""
    forms = (word, strip_punctuation(word), "".join(filter(str.isalpha, word)))
    return {form for form in forms if len(form) >= _SHORTEST_WORD}


def _readable(label: str) -> str:
    """An A-label (RFC 5890 §2.3.2.1) as people read it."""
    return label[4:].encode().decode("punycode") if label.startswith("xn--") else label
