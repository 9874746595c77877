"""BOOTSTRAP_USERS: accounts that are there from the first start on."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from unicodedata import normalize

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import NoDecode

MAX_PASSWORD_BYTES: Final = 1024
HIGHEST_ID: Final = 2**52
"""JavaScript reads whole numbers up to 2**53 - 1, and users who register later get higher ids."""


# Of private networks, or nobody's (RFC 6761, 6762, 8375). The library refuses them, so a suffix hides them.
_PRIVATE: Final = re.compile(r"[@.](local|localhost|invalid|home\.arpa)$", re.IGNORECASE)
_SUFFIX: Final = ".example"


class Email(NamedTuple):
    """`domain` is in ASCII; neither is in lower case yet."""

    local: str
    domain: str


def parse_email(text: str, *, private: bool) -> Email:
    """`private` takes domains of private networks too. Raises ValueError with a message for its author."""
    suffix = _SUFFIX if private and _PRIVATE.search(text.strip()) else ""
    try:
        parsed = validate_email(
            text.strip() + suffix, check_deliverability=False, test_environment=True, strict=True
        )
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return Email(parsed.local_part, str(parsed.ascii_domain).removesuffix(suffix))


def _email(value: str) -> str:
    parse_email(value, private=True)
    return value


class BootstrapUser(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    email: Annotated[str, AfterValidator(_email)]
    role: Literal["user", "admin", "guest"] = "user"
    password: SecretStr | None = None
    password_file: str | None = Field(default=None, min_length=1)
    id: int | None = Field(default=None, ge=1, le=HIGHEST_ID)

    @model_validator(mode="after")
    def _with_one_password(self) -> Self:
        if (self.password is None) == (self.password_file is None):
            raise ValueError("has either a password or a password_file")
        if "\0" in self.text:
            raise ValueError("the password has a NUL character, which nobody can log in with")
        if not 0 < len(normalize("NFC", self.text).encode()) <= MAX_PASSWORD_BYTES:
            raise ValueError(f"the password has 1 to {MAX_PASSWORD_BYTES} bytes")
        return self

    @property
    def text(self) -> str:
        """The password; of a file, without the line break at its end."""
        if self.password is not None:
            return self.password.get_secret_value()
        return read_text(str(self.password_file)).rstrip("\r\n")


def read_text(file: str) -> str:
    """Without the mark that editors on Windows begin a file with (BOM).

    Raises ValueError with the reason, without the content.
    """
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{file} is not in UTF-8") from None


_USERS: Final = TypeAdapter(tuple[BootstrapUser, ...])


def _users(value: object) -> object:
    """A JSON list, or the name of a file with one."""
    if not isinstance(value, str):
        return value
    is_list = value.lstrip().startswith("[")
    if not is_list and set(value) & set("{}\"'"):  # a list that was mistyped, with passwords in it
        raise ValueError("neither a JSON list nor the name of a file with one")
    text = value if is_list else read_text(value.strip())
    try:
        users = _USERS.validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError("; ".join(map(_complaint, error.errors(include_input=False)))) from None
    if len({user.email.strip().lower() for user in users}) < len(users):
        raise ValueError("an email is there twice")
    if len(ids := [user.id for user in users if user.id is not None]) > len(set(ids)):
        raise ValueError("an id is there twice")
    return users


def _complaint(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message if problem["type"] != "json_invalid" else "not a JSON list"
    number, *field = problem["loc"]
    return ": ".join([f"user {number + 1}", *map(str, field), message])


BootstrapUsers = Annotated[tuple[BootstrapUser, ...], NoDecode, BeforeValidator(_users)]
