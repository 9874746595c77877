from datetime import datetime
from typing import Any

from pydantic import Field, IPvAnyAddress

from app.models.audit import AuditEventName
from app.schemas.fields import Answer


class AuditEventOut(Answer):
    """`actor_id` is null if no user was signed in: a failed login, or a command of an operator."""

    id: int = Field(examples=[1])
    at: datetime
    actor_id: int | None = Field(examples=[1])
    user_id: int | None = Field(examples=[2])
    event: AuditEventName = Field(examples=[AuditEventName.USER_DISABLED])
    ip_address: IPvAnyAddress | None = Field(examples=["192.0.2.7"])
    user_agent: str | None = Field(examples=["Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"])
    request_id: str | None = Field(examples=["5f0c6f4b8bb14b2a9c0d7c4d0f6f1f59"])
    details: dict[str, Any] = Field(examples=[{"reason": "wrong_password"}])
