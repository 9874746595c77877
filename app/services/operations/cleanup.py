"""Prunes what has had its time, outside of requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import (
    ColumnElement,
    DateTime,
    Executable,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute

from app.clock import Clock
from app.database.transactions import Database, retry_conflicts
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
from app.models.sessions import is_live
from app.services.operations.erasure import AddressErasure
from app.telemetry.metrics import SessionMetrics

log = structlog.get_logger(__name__)

BATCH_SIZE: Final = 1000
FAILURES_KEPT: Final = timedelta(days=90)
MAILS_KEPT: Final = timedelta(days=7)
ADVISORY_LOCK: Final = 6_051_220_108  # migrations lock the previous number

_TRY_LOCK: Final = select(func.pg_try_advisory_xact_lock(ADVISORY_LOCK))
_now, _kept_until = (bindparam(name, type_=DateTime(timezone=True)) for name in ("now", "kept_until"))


def _delete_batch(key: InstrumentedAttribute[Any], due: ColumnElement[bool]) -> Executable:
    """`key` is the primary key of the table."""
    batch = select(key).where(due).limit(BATCH_SIZE).with_for_update(skip_locked=True)
    return delete(key.class_).where(key.in_(batch)).returning(key)


_PRUNE_SESSIONS: Final = _delete_batch(
    LoginSession.id,
    or_(
        LoginSession.expires_at <= _now,
        LoginSession.revoked_at <= _kept_until,
    ),
)
_PRUNE_AUDIT: Final = _delete_batch(AuditEvent.id, AuditEvent.at <= _kept_until)
_PRUNE_REVOCATIONS: Final = _delete_batch(TokenRevocation.id, TokenRevocation.expires_at <= _now)
_PRUNE_THROTTLES: Final = _delete_batch(Throttle.key, Throttle.tat <= _now)
# Of an account, they count for as long as it exists (NIST SP 800-63B-4 §3.2.2).
_PRUNE_FAILURES: Final = _delete_batch(
    ConsecutiveFailures.key,
    and_(
        ConsecutiveFailures.failed_at <= _kept_until,
        ~exists().where(User.id == ConsecutiveFailures.user_id),
    ),
)
_PRUNE_MAILS: Final = _delete_batch(OutboxMessage.id, OutboxMessage.finished_at <= _kept_until)
_PRUNE_ONE_TIME_TOKENS: Final = _delete_batch(OneTimeToken.token_hash, OneTimeToken.expires_at <= _now)
_COUNT_LIVE: Final = select(func.count()).select_from(LoginSession).where(*is_live())


class Pruned(NamedTuple):
    sessions: int
    audit_events: int


@dataclass(frozen=True, slots=True)
class CleanupService:
    """Revoked sessions are kept for `sessions_kept`, so that users can see why they were signed out."""

    db: Database
    sessions_kept: timedelta
    audit_kept: timedelta
    erasure: AddressErasure
    clock: Clock
    metrics: SessionMetrics

    def prune(self) -> Pruned | None:
        """Delete in batches. Returns None if another process is already pruning.

        Skips locked rows; a later run deletes them. Raises DatabaseUnavailable.
        """
        now = self.clock()
        sessions = self._prune(_PRUNE_SESSIONS, {"now": now, "kept_until": now - self.sessions_kept})
        if sessions is None:
            return None
        self.metrics.purged.inc(sessions)
        audit_events = self._prune(_PRUNE_AUDIT, {"kept_until": now - self.audit_kept})
        self.erasure.run()
        self._prune(_PRUNE_REVOCATIONS, {"now": now})
        self._prune(_PRUNE_THROTTLES, {"now": now})
        self._prune(_PRUNE_FAILURES, {"kept_until": now - FAILURES_KEPT})
        self._prune(_PRUNE_MAILS, {"kept_until": now - MAILS_KEPT})
        self._prune(_PRUNE_ONE_TIME_TOKENS, {"now": now})
        self.metrics.live.set(self.db.execute(_COUNT_LIVE, {"now": now})[0][0])
        pruned = Pruned(sessions, audit_events or 0)
        if any(pruned):
            log.info("cleanup.done", **pruned._asdict())
        return pruned

    def _prune(self, statement: Executable, parameters: Mapping[str, datetime]) -> int | None:
        pruned = batch = self._prune_batch(statement, parameters)
        while batch == BATCH_SIZE:
            if batch := self._prune_batch(statement, parameters):
                pruned = (pruned or 0) + batch
        return pruned

    @retry_conflicts
    def _prune_batch(self, statement: Executable, parameters: Mapping[str, datetime]) -> int | None:
        """One transaction per batch, so that row locks are short. None if another process holds the lock."""
        with self.db.transaction() as transaction:
            if not transaction.execute(_TRY_LOCK)[0][0]:
                return None
            return len(transaction.execute(statement, parameters))
