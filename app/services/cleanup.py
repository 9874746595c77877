"""Deleting what nobody needs any more, off the request path."""

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import DateTime, bindparam, delete, func, or_, select

from app.clock import Clock
from app.database import Database
from app.metrics import Metrics
from app.models import LoginSession
from app.services.sessions import ALIVE

log = structlog.get_logger(__name__)

BITE: Final = 1000
ADVISORY_LOCK: Final = 6_051_220_108  # beside the migrations' own

_TRY_LOCK = select(func.pg_try_advisory_xact_lock(ADVISORY_LOCK))
_PURGE = (
    delete(LoginSession)
    .where(
        LoginSession.id.in_(
            select(LoginSession.id)
            .where(
                or_(
                    LoginSession.expires_at <= bindparam("now", type_=DateTime(timezone=True)),
                    LoginSession.revoked_at <= bindparam("forgotten", type_=DateTime(timezone=True)),
                )
            )
            .limit(BITE)
            .with_for_update(skip_locked=True)
        )
    )
    .returning(LoginSession.id)
)
_COUNT_LIVE = select(func.count()).select_from(LoginSession).where(*ALIVE)


@dataclass(frozen=True, slots=True)
class CleanupService:
    """`retention` is how long ended sessions are kept, for people to see why they were signed out."""

    db: Database
    retention: timedelta
    clock: Clock
    metrics: Metrics
    stopping: threading.Event = field(default_factory=threading.Event)

    def sweep(self) -> int | None:
        """Delete what is due, in statements of `BITE` rows; returns the number, None where another is at it.

        Rows that somebody has locked are left for the next sweep. Raises DatabaseUnavailable.
        """
        with self.db.transaction() as turn:
            if not turn.scalar(_TRY_LOCK):
                return None
            now = self.clock()
            purged = bite = self._bite(now)
            while bite == BITE and not self.stopping.is_set():
                purged += (bite := self._bite(now))
            self.metrics.sessions_live.set(self.db.execute(_COUNT_LIVE, {"now": now})[0][0])
        if purged:
            log.info("sessions.purged", number=purged)
        return purged

    def _bite(self, now: datetime) -> int:
        number = len(self.db.execute(_PURGE, {"now": now, "forgotten": now - self.retention}))
        self.metrics.sessions_purged.inc(number)
        return number
