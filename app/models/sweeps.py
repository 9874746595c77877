from datetime import datetime

from sqlalchemy import BigInteger, DateTime, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.declarative import Base


class Sweep(Base):
    """Where in a big table the clean-up goes on, and when a worker last took its turn."""

    __tablename__ = "sweeps"

    table_name: Mapped[str] = mapped_column(String(63), primary_key=True)
    next_block: Mapped[int] = mapped_column(BigInteger)
    begun_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
