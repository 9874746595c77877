"""Field types that several requests share, and what all answers have in common."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_core import PydanticKnownError

from app.security.passwords import MAX_PASSWORD_BYTES, normalize_password

_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")
_CONTROLS: Final = ("Cc", "Zl", "Zp")


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("NUL characters are not possible")
    return value


def _short_enough(value: object) -> object:
    """Before `max_length` is looked at, which speaks of items where the text is secret."""
    if isinstance(value, str) and len(value) > MAX_PASSWORD_BYTES:
        raise PydanticKnownError("string_too_long", {"max_length": MAX_PASSWORD_BYTES})
    return value


def text_or_nothing(value: object) -> object:
    """Before a union is looked at, whose error would name its members to whoever reads it."""
    if value is not None and not isinstance(value, str | SecretStr):
        raise PydanticKnownError("string_type")
    return value


def _without_controls(value: str) -> str:
    if any(unicodedata.category(character) in _CONTROLS for character in value):
        raise ValueError("control characters and line breaks are not possible")
    return value


def _fits(value: SecretStr) -> SecretStr:
    password = _without_nul(value.get_secret_value())
    try:
        size = len(normalize_password(password).encode())
    except UnicodeEncodeError:
        raise ValueError("Password should be Unicode text") from None
    if size > MAX_PASSWORD_BYTES:
        raise ValueError(f"Password should have at most {MAX_PASSWORD_BYTES} bytes")
    return value


def _as_date_time(value: object) -> object:
    """RFC 3339 §5.6. Pydantic would also take a number, as Unix seconds."""
    if isinstance(value, str) and not _DATE_TIME.match(value):
        raise ValueError("Input should be a date and a time, such as 2030-01-31T12:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("no such moment in UTC") from None


class Answer(BaseModel):
    """A field with a default is always there, and the OpenAPI document says so."""

    model_config = ConfigDict(from_attributes=True, json_schema_serialization_defaults_required=True)


Moment = Annotated[AwareDatetime, BeforeValidator(_as_date_time), AfterValidator(_in_utc)]
Text = Annotated[str, AfterValidator(_without_nul)]
Line = Annotated[str, AfterValidator(_without_controls)]
# The length is checked first, because normalizing a long text takes quadratic time.
Password = Annotated[
    SecretStr,
    BeforeValidator(_short_enough),
    Field(max_length=MAX_PASSWORD_BYTES, examples=["correct horse battery"]),
    AfterValidator(_fits),
]
