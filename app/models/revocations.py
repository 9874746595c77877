from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.declarative import Base


class TokenRevocation(Base):
    """Access tokens that siblings must no longer believe, although they have not expired.

    Either of one session, or of one user: those issued until `issued_before`, or those with another `role`.
    No foreign keys, because a revocation outlives its session and user.
    """

    __tablename__ = "revocations"
    __table_args__ = (CheckConstraint("(session_id IS NULL) <> (user_id IS NULL)", name="subject"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    transaction_id: Mapped[int] = mapped_column(
        BigInteger, server_default=text("pg_current_xact_id()::text::bigint"), index=True
    )
    session_id: Mapped[UUID | None]
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    issued_before: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    role: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
