from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.models.users import Role
from app.schemas.fields import Answer


class IntrospectionRequest(BaseModel):
    """RFC 7662 §2.1. Only access tokens are known here, so the hint changes nothing."""

    token: SecretStr = Field(max_length=16_384)
    token_type_hint: str | None = Field(default=None, max_length=64)


class Demand(BaseModel):
    """What a proxy asks for. A name that is none of these is a typo, and would open what it should close."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None


class ActiveToken(Answer):
    """RFC 7662 §2.2. `role` is the user's role now; times are Unix seconds."""

    active: Literal[True] = True
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 — a type
    iss: str = Field(examples=["kanban-auth"])
    aud: str | None = Field(examples=["board"])
    sub: str = Field(examples=["42"])
    role: Role = Field(examples=[Role.USER])
    sid: UUID | None = Field(examples=["7b0c1f5e-2f5c-4bb0-9a86-5d1a6f7d3a10"])
    jti: str = Field(examples=["0f8b2f1c-6a53-4a0e-9f0a-0e2b8d1c7a55"])
    iat: int = Field(examples=[1764122556])
    exp: int = Field(examples=[1764123456])


class InactiveToken(Answer):
    active: Literal[False] = False
