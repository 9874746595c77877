"""Setting types that need their own validation."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, AnyHttpUrl, BeforeValidator, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

MIN_SECRET_BYTES: Final = 32
MIN_DISTINCT_BYTES: Final = 8  # `openssl rand -hex` gives fewer once in a million times
_MAKE_ONE: Final = "try: openssl rand -hex 32"
_RATE: Final = re.compile(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,4})([smh])")
PATH_PREFIX: Final = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*/?")
_URL: Final = re.compile(r"(https?://[^\s/?#\\@*]+)(/[A-Za-z0-9._~/-]*)?", re.IGNORECASE)
_UNITS: Final = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1)}


def in_production(info: ValidationInfo) -> bool:
    """`environment` has to be a field that is validated before."""
    return info.data.get("environment") != "development"


@dataclass(frozen=True)
class Rate:
    """`burst` attempts at once, and one more every `period`. Written as 60/2s, 3/20m or 1/1h."""

    burst: int
    period: timedelta

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Raises ValueError."""
        if not (match := _RATE.fullmatch(text.strip())):
            raise ValueError("looks like 10/60s: ten attempts at once, and one more every 60 s (or m, h)")
        return cls(int(match[1]), int(match[2]) * _UNITS[match[3]])

    def __str__(self) -> str:
        return f"{self.burst}/{self.period // _UNITS['s']}s"


def _split_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            raise ValueError("not a JSON list") from None
    return [part for part in value.replace(",", " ").split() if part]


def _origin(value: str) -> str:
    if match := _URL.fullmatch(value):
        with suppress(ValueError):
            if match[2] in (None, "/"):
                return origin_of(match[1])
    raise ValueError(
        "each origin looks like https://board.example.com or http://localhost:5173, without a path or a user,"
        " and * is not possible"
    )


def origin_of(url: str) -> str:
    """Of an absolute URL, as browsers write it: by WHATWG's rules, without the port that goes without saying.

    Raises ValueError.
    """
    parts = urlsplit(str(AnyHttpUrl(url)))
    return f"{parts.scheme}://{parts.netloc}"


def _path_prefix(value: str) -> str:
    if not PATH_PREFIX.fullmatch(value):
        raise ValueError("looks like /auth")
    return value.rstrip("/")


def _page_path(value: str) -> str:
    if not re.fullmatch(r"/(?!/)[A-Za-z0-9._~/#-]*", value):
        raise ValueError("looks like /account/reset")
    return value


def _base_url(value: str) -> str:
    if match := _URL.fullmatch(value):
        with suppress(ValueError):
            return f"{origin_of(match[1])}{match[2] or ''}".rstrip("/")
    raise ValueError("looks like https://board.example.com, or with a path")


def _random(value: SecretStr, info: ValidationInfo) -> SecretStr:
    secret = value.get_secret_value().encode()
    if in_production(info) and len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"needs at least {MIN_SECRET_BYTES} bytes; {_MAKE_ONE}")
    if in_production(info) and len(set(secret)) < MIN_DISTINCT_BYTES:
        raise ValueError(f"repeats itself and is easily guessed; {_MAKE_ONE}")
    if any(mark in value.get_secret_value() for mark in ("-----BEGIN", "ssh-", "ecdsa-")):
        raise ValueError(f"is a random string, not a PEM or SSH key; {_MAKE_ONE}")
    return value


Secret = Annotated[SecretStr, AfterValidator(_random)]
Secrets = Annotated[tuple[Secret, ...], NoDecode, BeforeValidator(_split_list)]
"""Separated by commas or spaces, or a JSON list."""
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split_list)
]
"""Separated by commas or spaces, or a JSON list."""
PathPrefix = Annotated[str, AfterValidator(_path_prefix)]
PagePath = Annotated[str, AfterValidator(_page_path)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
RateSetting = Annotated[
    Rate, NoDecode, BeforeValidator(lambda value: Rate.parse(value) if isinstance(value, str) else value)
]
