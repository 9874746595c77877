from datetime import datetime

from sqlalchemy import BigInteger, DateTime, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.models.declarative import Base

# A charge changes no indexed column, and pages have free space, so that it is a heap-only update.
_ROOMY = {"postgresql_with": {"fillfactor": 70}}


class Throttle(Base):
    """`tat` is GCRA's theoretical arrival time: a row of the past is an unused bucket.

    Not logged, so that a charge costs no disk: after a crash of the server the table is empty.
    """

    __tablename__ = "throttles"
    __table_args__ = ({"prefixes": ["UNLOGGED"], **_ROOMY},)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    tat: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ConsecutiveFailures(Base):
    """Wrong passwords since the last right one, of an account or of one of its devices.

    Logged, as NIST SP 800-63B-4 §3.2.2 sets a limit that a crash must not lift. No foreign key: the same
    is kept of accounts that do not exist, with no `user_id`.
    """

    __tablename__ = "consecutive_failures"
    __table_args__ = (_ROOMY,)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    failures: Mapped[int]
    failed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
