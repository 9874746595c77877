from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from app.models.users import Role
from app.schemas.fields import Answer, Password, text_or_nothing
from app.security.emails import MAX_EMAIL_LENGTH, normalize_email, normalize_public_email

_EMAIL: Final = Field(
    max_length=MAX_EMAIL_LENGTH,  # first, because normalizing a long text takes quadratic time
    json_schema_extra={"format": "email"},
    description="Compared without regard to case.",
    examples=["ada@example.com"],
)
Email = Annotated[str, _EMAIL, AfterValidator(normalize_email)]
PublicEmail = Annotated[str, _EMAIL, AfterValidator(normalize_public_email)]


class NewUser(BaseModel):
    email: PublicEmail
    password: Password = Field(description="Any Unicode, 1024 bytes at most; never trimmed.")


class AdminNewUser(BaseModel):
    email: Email
    password: Annotated[Password | SkipJsonSchema[None], BeforeValidator(text_or_nothing)] = Field(
        default=None, description="Any Unicode, 1024 bytes at most; never trimmed. Left out with `invite`."
    )
    invite: StrictBool = Field(
        default=False, description="Mail them a link by which they choose the password themselves."
    )
    role: Role = Field(default=Role.USER, examples=[Role.USER])

    @model_validator(mode="after")
    def _with_one_way_in(self) -> Self:
        if self.invite == (self.password is not None):
            raise PydanticCustomError("password_or_invite", "Give a password, or invite: true")
        return self


class UserChange(BaseModel):
    """A field that is left out does not change."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = Field(default=None, examples=[Role.GUEST])
    is_active: StrictBool | None = None


class RoleChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Role = Field(examples=[Role.ADMIN])


class PasswordChange(BaseModel):
    current_password: Password
    new_password: Password = Field(description="Any Unicode, 1024 bytes at most; never trimmed.")


class PasswordProof(BaseModel):
    password: Password


class EmailChange(BaseModel):
    new_email: PublicEmail
    password: Password


class Forgotten(BaseModel):
    email: Email


_Token = Annotated[str, Field(min_length=1, max_length=200, description="`?token=` of the link in the mail.")]


class LinkToken(BaseModel):
    token: _Token


class PasswordReset(BaseModel):
    token: _Token
    new_password: Password = Field(description="Any Unicode, 1024 bytes at most; never trimmed.")


class UserOut(Answer):
    id: int = Field(examples=[1])
    email: str = Field(max_length=MAX_EMAIL_LENGTH, examples=["ada@example.com"])
    role: Role = Field(examples=[Role.USER])
    is_active: bool
    created_at: datetime
    email_verified: bool = Field(description="Whether its owner has shown that mail arrives there.")
