"""Prunes what has had its time, outside of requests."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

import structlog
from sqlalchemy import DateTime, and_, bindparam, exists, or_, text

from app.clock import Clock
from app.database.transactions import Database
from app.models import (
    AuditEvent,
    ConsecutiveFailures,
    LoginSession,
    OneTimeToken,
    OutboxMessage,
    Throttle,
    TokenRevocation,
    User,
)
from app.services.operations.erasure import AddressErasure
from app.services.operations.sweeping import Due, Moments, Sweeper
from app.telemetry.metrics import SessionMetrics

log = structlog.get_logger(__name__)

FAILURES_KEPT: Final = timedelta(days=90)
MAILS_KEPT: Final = timedelta(days=7)
BLOCKS_COUNTED: Final = 4096

_now, _kept_until = (bindparam(name, type_=DateTime(timezone=True)) for name in ("now", "kept_until"))

_SESSIONS: Final = Due.anywhere(
    LoginSession.id, or_(LoginSession.expires_at <= _now, LoginSession.revoked_at <= _kept_until)
)
_AUDIT: Final = Due.by_index(AuditEvent.id, AuditEvent.at <= _kept_until)
_REVOCATIONS: Final = Due.by_index(TokenRevocation.id, TokenRevocation.expires_at <= _now)
_THROTTLES: Final = Due.anywhere(Throttle.key, Throttle.tat <= _now)
# Of an account, they count for as long as it exists (NIST SP 800-63B-4 §3.2.2).
_FAILURES: Final = Due.anywhere(
    ConsecutiveFailures.key,
    and_(
        ConsecutiveFailures.failed_at <= _kept_until,
        ~exists().where(User.id == ConsecutiveFailures.user_id),
    ),
)
_MAILS: Final = Due.by_index(OutboxMessage.id, OutboxMessage.finished_at <= _kept_until)
_ONE_TIME_TOKENS: Final = Due.anywhere(OneTimeToken.token_hash, OneTimeToken.expires_at <= _now)
# Of a big table, one block in many; always the same ones, so that the number does not waver.
_COUNT_LIVE: Final = text("""
WITH share AS (
    SELECT least(1, CAST(:most AS float) * CAST(current_setting('block_size') AS int)
        / greatest(1, pg_relation_size('refresh_tokens'))) AS counted
)
SELECT round(count(*) / (SELECT counted FROM share)) AS live
FROM refresh_tokens TABLESAMPLE SYSTEM (100 * (SELECT counted FROM share)) REPEATABLE (0)
WHERE revoked_at IS NULL AND expires_at > :now
""")


class Pruned(NamedTuple):
    sessions: int
    audit_events: int


@dataclass(frozen=True, slots=True)
class CleanupService:
    """Revoked sessions are kept for `sessions_kept`, so that users can see why they were signed out."""

    db: Database
    sweeper: Sweeper
    sessions_kept: timedelta
    audit_kept: timedelta
    erasure: AddressErasure
    clock: Clock
    metrics: SessionMetrics

    def prune(self) -> Pruned | None:
        """All that is due. Returns None if another process is already pruning.

        Skips locked rows; a later run deletes them. Raises DatabaseUnavailable.
        """
        return self._run(self.sweeper.delete)

    def sweep(self) -> Pruned | None:
        """The same a little at a time, so that it costs no more where tables are bigger."""
        return self._run(self.sweeper.sweep)

    def _run(self, delete: Callable[[Due, Moments], int | None]) -> Pruned | None:
        now = self.clock()
        sessions = delete(_SESSIONS, {"now": now, "kept_until": now - self.sessions_kept})
        if sessions is None:
            return None
        self.metrics.purged.inc(sessions)
        audit_events = delete(_AUDIT, {"kept_until": now - self.audit_kept})
        self.erasure.run()
        for due in (_REVOCATIONS, _THROTTLES, _ONE_TIME_TOKENS):
            delete(due, {"now": now})
        delete(_FAILURES, {"kept_until": now - FAILURES_KEPT})
        delete(_MAILS, {"kept_until": now - MAILS_KEPT})
        self.metrics.live.set(self.db.execute(_COUNT_LIVE, {"now": now, "most": BLOCKS_COUNTED})[0].live)
        pruned = Pruned(sessions, audit_events or 0)
        if any(pruned):
            log.info("cleanup.done", **pruned._asdict())
        return pruned
