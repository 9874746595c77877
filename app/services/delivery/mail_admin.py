"""The outbox, for operators."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import DateTime, bindparam, or_, select, update

from app.clock import Clock
from app.database.transactions import Database, Rows
from app.models import OutboxMessage
from app.models.outbox import MailState

_now = bindparam("now", type_=DateTime(timezone=True))
_is_chosen = OutboxMessage.id.in_(bindparam("ids", expanding=True))
_has_failed = OutboxMessage.state == MailState.FAILED
# Of those that are queued, one without an error is new, or being sent at this moment.
_waits_after_an_error = (OutboxMessage.state == MailState.QUEUED) & OutboxMessage.last_error.is_not(None)
_retry = (
    update(OutboxMessage)
    .where(or_(_has_failed, _waits_after_an_error))
    .values(
        state=MailState.QUEUED,
        created_at=_now,
        next_attempt_at=_now,
        attempts=0,
        finished_at=None,
        last_error=None,
    )
    .returning(OutboxMessage.id)
)
_RETRY: Final = _retry.where(_is_chosen)
_RETRY_ALL: Final = _retry
_DROP: Final = (
    update(OutboxMessage)
    .where(_is_chosen, OutboxMessage.state.in_((MailState.QUEUED, MailState.FAILED)))
    .values(state=MailState.DROPPED, finished_at=_now, text_body=None, html_body=None)
    .returning(OutboxMessage.id)
)


class MailInfo(NamedTuple):
    """A mail without what it says."""

    id: UUID
    state: str
    kind: str
    user_id: int | None
    recipient: str
    created_at: datetime
    attempts: int
    next_attempt_at: datetime
    finished_at: datetime | None
    last_error: str | None


_SELECT: Final = select(*(getattr(OutboxMessage, name) for name in MailInfo._fields)).order_by(
    OutboxMessage.created_at.desc(), OutboxMessage.id
)


@dataclass(frozen=True, slots=True)
class MailAdmin:
    db: Database
    clock: Clock

    def list(self, state: MailState | None, limit: int) -> Sequence[MailInfo]:
        """Newest first."""
        statement = _SELECT.limit(limit)
        if state is not None:
            statement = statement.where(OutboxMessage.state == state)
        return [MailInfo._make(row) for row in self.db.execute(statement)]

    def retry(self, ids: Collection[UUID] | None) -> Sequence[UUID]:
        """Those that have failed or wait for their next attempt are tried at once, and for a day again.

        None for all of them. Returns which they were.
        """
        if ids is None:
            return _ids(self.db.execute(_RETRY_ALL, {"now": self.clock()}))
        return _ids(self.db.execute(_RETRY, {"ids": [*ids], "now": self.clock()}))

    def drop(self, ids: Collection[UUID]) -> Sequence[UUID]:
        """They are not sent, and what they say is forgotten. Returns which they were."""
        return _ids(self.db.execute(_DROP, {"ids": [*ids], "now": self.clock()}))


def _ids(rows: Rows) -> Sequence[UUID]:
    return [row.id for row in rows]
