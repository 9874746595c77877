"""Fields that several requests share."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from app.security.passwords import MAX_PASSWORD_BYTES, normalize_password


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("NUL characters are not possible")
    return value


def _fits(value: SecretStr) -> SecretStr:
    password = value.get_secret_value()
    _without_nul(password)
    if len(normalize_password(password).encode()) > MAX_PASSWORD_BYTES:
        raise ValueError(f"Password should have at most {MAX_PASSWORD_BYTES} bytes")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
Password = Annotated[
    SecretStr,
    AfterValidator(_fits),
    Field(
        max_length=MAX_PASSWORD_BYTES,
        description="Any Unicode, 8 characters at least, 1024 bytes at most; never trimmed.",
        examples=["correct horse battery"],
    ),
]
