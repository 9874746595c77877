from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from app.models.users import Role
from app.schemas.fields import Answer, Password
from app.security.emails import MAX_EMAIL_LENGTH, normalize_email

Email = Annotated[
    str,
    Field(
        max_length=MAX_EMAIL_LENGTH,  # first, because normalizing a long text takes quadratic time
        json_schema_extra={"format": "email"},
        description="Compared without regard to case.",
        examples=["ada@example.com"],
    ),
    AfterValidator(normalize_email),
]


class NewUser(BaseModel):
    email: Email
    password: Password = Field(description="Any Unicode, 1024 bytes at most; never trimmed.")


class AdminNewUser(NewUser):
    role: Role = Field(default=Role.USER, examples=[Role.USER])


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


class UserOut(Answer):
    id: int = Field(examples=[1])
    email: str = Field(max_length=MAX_EMAIL_LENGTH, examples=["ada@example.com"])
    role: Role = Field(examples=[Role.USER])
    is_active: bool
    created_at: datetime
