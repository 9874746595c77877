"""The most common passwords of breaches, as a sorted file of the first 5 bytes of their SHA-256 hashes.

`requirements/common_passwords.py` makes the file. One in three million other passwords is taken
for a common one.
"""

import string
from bisect import bisect_left
from functools import cache
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from app.security.passwords import normalize_password

FILE: Final = Path(__file__).with_suffix(".bin")
SIZE: Final = 5
_AROUND: Final = string.punctuation + string.whitespace


def fold_password(password: str) -> str:
    """For comparisons: without case, normalized."""
    return normalize_password(normalize_password(password).casefold())


def strip_punctuation(password: str) -> str:
    """Without what stands around it: `dragon!!` is as easy to guess as `dragon`."""
    return password.strip(_AROUND)


def is_common(folded: str) -> bool:
    """`folded` is a folded password; takes microseconds."""
    return _is_listed(folded) or _is_listed(strip_punctuation(folded))


def fingerprint(folded: str) -> bytes:
    return sha256(folded.encode()).digest()[:SIZE]


def _is_listed(folded: str) -> bool:
    listed, wanted = _fingerprints(), fingerprint(folded)
    place = bisect_left(range(0, len(listed), SIZE), wanted, key=lambda at: listed[at : at + SIZE]) * SIZE
    return listed[place : place + SIZE] == wanted


@cache
def _fingerprints() -> mmap:
    """The workers share its pages, and read those that a search touches."""
    with FILE.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ)
