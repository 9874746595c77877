from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field

from app.schemas.fields import Answer

_Seconds = Annotated[int, BeforeValidator(lambda at: int(at.timestamp()) if isinstance(at, datetime) else at)]
_CURSOR = "7c1c5d3aa9f4f0d6b1a0a5b0a8e6c1f2.871:874:"
_Subject = Annotated[str, BeforeValidator(str)]


class Revocation(Answer):
    """Access tokens that must not be believed any more, until `expires_at` (Unix seconds).

    With `sid`: all of this session. With `sub`: of this user, those issued (`iat`) until `issued_before`
    (Unix seconds), or those with another role than `role`.
    """

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    cursor: str = Field(description="The position after this revocation.", examples=[_CURSOR])
    sid: UUID | None = Field(validation_alias="session_id", examples=["7b0c1f5e-2f5c-4bb0-9a86-5d1a6f7d3a10"])
    sub: _Subject | None = Field(validation_alias="user_id", examples=["42"])
    issued_before: _Seconds | None = Field(examples=[1764123456])
    role: str | None = Field(examples=["user"])
    reason: str = Field(examples=["logout"])
    expires_at: _Seconds = Field(examples=[1764124356])


class RevocationPage(Answer):
    revocations: list[Revocation] = Field(validation_alias="items", examples=[[]])
    cursor: str = Field(description="For `after` of the next request.", examples=[_CURSOR])
    has_more: bool = Field(description="Whether to ask again at once.")
