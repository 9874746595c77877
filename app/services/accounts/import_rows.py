"""What a row of an import says of a user: its columns, checked and converted."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from app.models.users import Role
from app.security.emails import normalize_email
from app.services.protection.hashing import HashingPool
from app.setting_bootstrap import HIGHEST_ID

REQUIRED_COLUMNS: Final = ("email", "hashed_password")
COLUMNS: Final = (*REQUIRED_COLUMNS, "role", "id", "created_at", "is_active", "email_verified")
MISSING: Final[Any] = object()
"""The value of a field that a row of a file has not, and the column of one too many."""
_SHOWN: Final = 64
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


class UnusableColumns(ValueError):
    """The message names them."""


def check_columns(columns: Iterable[str]) -> None:
    """Raises UnusableColumns. What is not known is refused, as to ignore it would lose what it says."""
    given = list(columns)
    if unknown := [repr(shown(name)) for name in given if name not in COLUMNS]:
        raise UnusableColumns(f"unknown column {', '.join(unknown)}; there are {','.join(COLUMNS)}")
    if missing := [name for name in REQUIRED_COLUMNS if name not in given]:
        raise UnusableColumns(f"no column {', '.join(missing)}")
    if len(set(given)) < len(given):
        raise UnusableColumns("a column is there twice")


@dataclass(frozen=True, slots=True)
class RowReader:
    hashing: HashingPool
    now: datetime

    def read(self, columns: Collection[str], row: Mapping[Any, object]) -> dict[str, Any]:
        """The values of a new user. Raises ValueError with the reason.

        Each column but the password has a value in every row. Values are text, or what PostgreSQL gives for
        another project's columns.
        """
        if MISSING in row:
            raise ValueError("has more fields than the first line; one with a comma in it needs quotes")
        if MISSING in row.values():
            raise ValueError("has fewer fields than the first line")
        readers: dict[str, Callable[[str], Any]] = {
            "email": normalize_email,
            "hashed_password": self._hash,
            "role": _role,
            "id": _id,
            "created_at": self._time,
            "is_active": partial(_boolean, "is_active"),
            "email_verified": partial(_boolean, "email_verified"),
        }
        user = {name: readers[name](text_of(row, name)) for name in COLUMNS if name in columns}
        verified = user.pop("email_verified", True)
        return {"created_at": self.now, "email_verified_at": self.now if verified else None} | user

    def _hash(self, text: str) -> str | None:
        """None for who has no password, as they came by another way."""
        if not text:
            return None
        if problem := self.hashing.problem_with(text):
            raise ValueError(f"hashed_password {problem}")
        return text

    def _time(self, text: str) -> datetime:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("created_at is no time like 2024-05-31T09:30:00Z") from None
        aware = time if time.tzinfo else time.replace(tzinfo=UTC)
        if not _EARLIEST <= aware <= self.now:
            raise ValueError("created_at is before 1970 or in the future; without a zone it is in UTC")
        return aware


def text_of(row: Mapping[Any, object], column: str) -> str:
    value = row.get(column)
    if value is MISSING:
        return ""
    if isinstance(value, memoryview):  # some keep hashes as bytea
        return value.tobytes().decode("ascii", "replace")
    return "" if value is None else str(value).strip()


def shown(text: str) -> str:
    """On one short line, and nothing of a hash, all of which begin with a $ or have one soon."""
    line = "".join(each if each.isprintable() else " " for each in text[: _SHOWN + 1])
    start, dollar, _ = line.partition("$")
    return f"{start[: _SHOWN - 1]}…" if dollar or len(line) > _SHOWN else line


def _role(text: str) -> str:
    if text not in list(Role):
        raise ValueError(f"role is none of {', '.join(Role)}")
    return text


def _id(text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or not 1 <= int(text) <= HIGHEST_ID:
        raise ValueError(f"id is no whole number from 1 to {HIGHEST_ID}")
    return int(text)


def _boolean(column: str, text: str) -> bool:
    if (value := _BOOLEANS.get(text.lower())) is None:
        raise ValueError(f"{column} is neither true nor false")
    return value
