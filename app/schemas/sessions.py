from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.schemas.fields import Password, Text

_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


class LoginForm(BaseModel):
    """RFC 6749 §4.3.2 in form only: a first-party login, no grant for third parties."""

    grant_type: Literal["password"] = "password"
    username: Text = Field(description="The email.", examples=["ada@example.com"])
    password: Password


class RefreshRequest(BaseModel):
    refresh_token: SecretStr | None = Field(
        default=None, description="Left out by clients that use cookies.", examples=[_JWT]
    )


class TokenPairOut(BaseModel):
    """Lifetimes are in seconds."""

    model_config = ConfigDict(from_attributes=True)

    access_token: str = Field(examples=[_JWT])
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(examples=[900])
    refresh_token: str = Field(examples=[_JWT])
    refresh_expires_in: int = Field(examples=[604800])


IdempotencyKeyText = Annotated[str, Field(max_length=255)]
