from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, IPvAnyAddress, SecretStr
from pydantic.json_schema import SkipJsonSchema

from app.models.sessions import RevocationReason
from app.schemas.fields import Answer, Password, Text, text_or_nothing
from app.security.emails import MAX_EMAIL_LENGTH

# Client generators use this name from the OpenAPI document.
EndReason = StrEnum("EndReason", [(reason.name, reason.value) for reason in RevocationReason])  # type: ignore[misc] # mypy requires literals
_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


class LoginForm(BaseModel):
    """Has the format of RFC 6749 §4.3.2, but is only for our own frontend, not for third parties."""

    grant_type: Literal["password"] = Field(default_factory=lambda: "password")
    username: Text = Field(
        max_length=MAX_EMAIL_LENGTH, description="The email.", examples=["ada@example.com"]
    )
    password: Password


class RefreshForm(BaseModel):
    """RFC 6749 §6."""

    grant_type: Literal["refresh_token"] = Field(default_factory=lambda: "refresh_token")
    refresh_token: SecretStr = Field(examples=[_JWT])


class RefreshRequest(BaseModel):
    refresh_token: Annotated[SecretStr | SkipJsonSchema[None], BeforeValidator(text_or_nothing)] = Field(
        default_factory=lambda: None, description="Left out by clients that use cookies."
    )


class TokenPairOut(Answer):
    """Lifetimes are in seconds."""

    access_token: str = Field(examples=[_JWT])
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(examples=[900])
    refresh_token: str = Field(examples=[_JWT])
    refresh_expires_in: int = Field(examples=[604800])


class _SessionBase(Answer):
    id: UUID = Field(examples=["7b0c1f5e-2f5c-4bb0-9a86-5d1a6f7d3a10"])
    created_at: datetime
    user_agent: str | None = Field(examples=["Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"])
    ip_address: IPvAnyAddress | None = Field(examples=["192.0.2.7"])


class SessionOut(_SessionBase):
    """`current` is true for the session that sent the request."""

    last_used_at: datetime
    expires_at: datetime
    current: bool = False


class EndedSessionOut(_SessionBase):
    ended_at: datetime
    reason: EndReason = Field(examples=[RevocationReason.LOGOUT])


IdempotencyKeyText = Annotated[str, Field(max_length=255)]
