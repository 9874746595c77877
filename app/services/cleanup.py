"""Deleting what nobody needs any more, off the request path."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog
from sqlalchemy import ColumnElement, DateTime, Executable, bindparam, delete, func, or_, select

from app.clock import Clock
from app.database import Database
from app.metrics import Metrics
from app.models import AuditEvent, LoginSession
from app.services.sessions import ALIVE

log = structlog.get_logger(__name__)

BITE: Final = 1000
ADVISORY_LOCK: Final = 6_051_220_108  # beside the migrations' own

_TRY_LOCK = select(func.pg_try_advisory_xact_lock(ADVISORY_LOCK))
_forgotten = bindparam("forgotten", type_=DateTime(timezone=True))


def _bite_of(model: type[LoginSession | AuditEvent], due: ColumnElement[bool]) -> Executable:
    bite = select(model.id).where(due).limit(BITE).with_for_update(skip_locked=True)
    return delete(model).where(model.id.in_(bite)).returning(model.id)


_PURGE = _bite_of(
    LoginSession,
    or_(
        LoginSession.expires_at <= bindparam("now", type_=DateTime(timezone=True)),
        LoginSession.revoked_at <= _forgotten,
    ),
)
_PURGE_AUDIT = _bite_of(AuditEvent, AuditEvent.at <= _forgotten)
_COUNT_LIVE = select(func.count()).select_from(LoginSession).where(*ALIVE)


class Swept(NamedTuple):
    sessions: int
    audit_events: int


@dataclass(frozen=True, slots=True)
class CleanupService:
    """Ended sessions are kept for `sessions_kept`, for people to see why they were signed out."""

    db: Database
    sessions_kept: timedelta
    audit_kept: timedelta
    clock: Clock
    metrics: Metrics
    stopping: threading.Event = field(default_factory=threading.Event)

    def sweep(self) -> Swept | None:
        """Delete what is due, in statements of `BITE` rows; None where another is at it.

        Rows that somebody has locked are left for the next sweep. Raises DatabaseUnavailable.
        """
        with self.db.transaction() as turn:
            if not turn.scalar(_TRY_LOCK):
                return None
            now = self.clock()
            swept = Swept(
                sessions=self._purge(_PURGE, {"now": now, "forgotten": now - self.sessions_kept}),
                audit_events=self._purge(_PURGE_AUDIT, {"forgotten": now - self.audit_kept}),
            )
            self.metrics.sessions_purged.inc(swept.sessions)
            self.metrics.sessions_live.set(self.db.execute(_COUNT_LIVE, {"now": now})[0][0])
        if any(swept):
            log.info("cleanup.done", **swept._asdict())
        return swept

    def _purge(self, statement: Executable, parameters: Mapping[str, datetime]) -> int:
        purged = bite = self._bite(statement, parameters)
        while bite == BITE and not self.stopping.is_set():
            purged += (bite := self._bite(statement, parameters))
        return purged

    def _bite(self, statement: Executable, parameters: Mapping[str, datetime]) -> int:
        return len(self.db.execute(statement, parameters))
