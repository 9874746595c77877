from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.models.signing_keys import MAX_REASON
from app.schemas.fields import Answer, Line
from app.security.keyring import KeyState


class KeyOut(Answer):
    """`superseded_at` is when the next key begins to sign; `can_sign` is false if it cannot be decrypted."""

    kid: str = Field(examples=["oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"])
    algorithm: Literal["ES256", "RS256"] = Field(examples=["ES256"])
    state: KeyState = Field(examples=[KeyState.SIGNING])
    created_at: datetime
    signs_from: datetime
    superseded_at: datetime | None = Field(examples=[None])
    revoked_at: datetime | None = Field(examples=[None])
    revoked_reason: str | None = Field(examples=[None])
    can_sign: bool


class KeyPreparation(BaseModel):
    algorithm: Literal["ES256", "RS256"] = "ES256"


class KeyRotation(BaseModel):
    now: bool = Field(
        default=False, strict=True, description="Sign with it at once, without publishing it first."
    )


class KeyRevocation(BaseModel):
    reason: Annotated[Line, Field(min_length=1, max_length=MAX_REASON, examples=["a backup was lost"])]


class RewrappedOut(Answer):
    rewrapped: int = Field(examples=[2])
    undecryptable: list[str] = Field(examples=[[]])
