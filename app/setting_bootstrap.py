"""BOOTSTRAP_USERS: accounts that are there from the first start on."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from email_validator import validate_email
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


def _email(value: str) -> str:
    validate_email(value.strip(), check_deliverability=False, test_environment=True, strict=True)
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
        if not 0 < len(self.text.encode()) <= MAX_PASSWORD_BYTES:
            raise ValueError(f"the password has 1 to {MAX_PASSWORD_BYTES} bytes")
        return self

    @property
    def text(self) -> str:
        """The password; of a file, without the line break at its end."""
        if self.password is not None:
            return self.password.get_secret_value()
        return read_text(str(self.password_file)).rstrip("\r\n")


def read_text(file: str) -> str:
    """Raises ValueError with the reason, without the content."""
    try:
        return Path(file).read_text(encoding="utf-8")
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
    return users


def _complaint(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message if problem["type"] != "json_invalid" else "not a JSON list"
    number, *field = problem["loc"]
    return ": ".join([f"user {number + 1}", *map(str, field), message])


BootstrapUsers = Annotated[tuple[BootstrapUser, ...], NoDecode, BeforeValidator(_users)]
