from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ColumnElement, DateTime, ForeignKey, String, bindparam
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from app.models.declarative import Base


class RevocationReason(StrEnum):
    LOGOUT = "logout"
    LOGOUT_ALL = "logout_all"
    PASSWORD_CHANGE = "password_change"
    PASSWORD_RESET = "password_reset"
    REUSE_DETECTED = "reuse_detected"
    ADMIN = "admin"
    USER_DISABLED = "user_disabled"
    REPLACED = "replaced"
    SESSION_LIMIT = "session_limit"


_REASONS = ", ".join(f"'{reason}'" for reason in RevocationReason)


class LoginSession(Base):
    """One row per login; each refresh updates it.

    A refresh changes no indexed column, and the fill factor leaves free space in each page. So the
    update can be heap-only (HOT), without writes to the indexes.
    """

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        CheckConstraint(f"revoked_reason IN ({_REASONS})", name="revoked_reason"),
        CheckConstraint("(revoked_at IS NULL) = (revoked_reason IS NULL)", name="revoked"),
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_id: Mapped[UUID]
    previous_token_id: Mapped[UUID | None]
    rotated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_reason: Mapped[str | None] = mapped_column(String(32))
    idempotency_key_hash: Mapped[str | None] = mapped_column(String(64))
    user_agent: Mapped[str | None] = mapped_column(String(255))
    ip_address: Mapped[str | None] = mapped_column(INET)


def is_live() -> tuple[ColumnElement[bool], ...]:
    """Neither revoked nor expired at the bind parameter `now`."""
    now = bindparam("now", type_=DateTime(timezone=True))
    return LoginSession.revoked_at.is_(None), LoginSession.expires_at > now
