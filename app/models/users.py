from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    String,
    UniqueConstraint,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.models.declarative import Base


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"
    GUEST = "guest"


class User(Base):
    """Who was invited has no password until they choose one, and cannot log in."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("role IN ('user', 'admin', 'guest')", name="role"),
        # For the user list: one index for each filter, so that no filter scans the whole table.
        Index("ix_users_email_pattern", "email", postgresql_ops={"email": "varchar_pattern_ops"}),
        Index("ix_users_role_id", "role", "id"),
        Index("ix_users_id_inactive", "id", postgresql_where=text("NOT is_active")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    hashed_password: Mapped[str | None] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16), server_default=Role.USER)
    is_active: Mapped[bool] = mapped_column(server_default=true())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    email_verified_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
