from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.models.declarative import Base


class Purpose(StrEnum):
    PASSWORD_RESET = "password_reset"
    INVITATION = "invitation"
    EMAIL_VERIFICATION = "email_verification"
    EMAIL_CHANGE = "email_change"
    EMAIL_RESTORE = "email_restore"


_PURPOSES = ", ".join(f"'{purpose}'" for purpose in Purpose)


class OneTimeToken(Base):
    """What the link of a mail holds, as its SHA-256. An account has one of each purpose.

    `email` is the one that an EMAIL_VERIFICATION confirms, the new one of an EMAIL_CHANGE, or the old one
    of an EMAIL_RESTORE, of which an account has one for each old email. If that was verified, nobody else
    gets it meanwhile.
    """

    __tablename__ = "one_time_tokens"
    __table_args__ = (
        CheckConstraint(f"purpose IN ({_PURPOSES})", name="purpose"),
        Index(
            "uq_one_time_tokens_user_id_purpose",
            "user_id",
            "purpose",
            unique=True,
            postgresql_where=text("purpose <> 'email_restore'"),
        ),
        Index(
            "uq_one_time_tokens_email_user_id",
            "email",
            "user_id",
            unique=True,
            postgresql_where=text("purpose = 'email_restore'"),
        ),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    purpose: Mapped[str] = mapped_column(String(32))
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    email: Mapped[str | None] = mapped_column(String(254))
    is_reservation: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
