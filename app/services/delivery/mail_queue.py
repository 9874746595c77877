"""What the sender reads and writes of the outbox.

Who claims a message has it until its lease ends, and no lock and no transaction is held while it is sent.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from random import SystemRandom
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import DateTime, bindparam, func, select, update

from app.clock import Clock
from app.database.transactions import Database
from app.models import OutboxMessage
from app.models.outbox import MAX_ERROR, MailState
from app.services.delivery.letters import Draft, NotDelivered

LEASE: Final = timedelta(minutes=2)
FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(hours=6)
GIVEN_UP_AFTER: Final = timedelta(hours=24)
_DOUBLINGS: Final = 10  # no more are needed from the first pause to the longest

_random = SystemRandom()
_is_queued = OutboxMessage.state == MailState.QUEUED
_is_this = (OutboxMessage.id == bindparam("message_id"), _is_queued)
_now = bindparam("now", type_=DateTime(timezone=True))
_due = (
    select(OutboxMessage.id)
    .where(_is_queued, OutboxMessage.next_attempt_at <= _now)
    .order_by(OutboxMessage.next_attempt_at)
    .limit(bindparam("number"))
    .with_for_update(skip_locked=True)
    .cte("due")
)
_CLAIM: Final = (
    update(OutboxMessage)
    .where(OutboxMessage.id == _due.c.id)
    .values(next_attempt_at=bindparam("leased_until"), attempts=OutboxMessage.attempts + 1, last_error=None)
    .returning(*(getattr(OutboxMessage, name) for name in (*Draft._fields, "kind", "user_id", "attempts")))
)
_are_these = (OutboxMessage.id.in_(bindparam("ids", expanding=True)), _is_queued)
_SENT: Final = (
    update(OutboxMessage)
    .where(*_are_these)
    .values(state=MailState.SENT, finished_at=_now, text_body=None, html_body=None)
)
_POSTPONE: Final = (
    update(OutboxMessage)
    .where(*_is_this)
    .values(next_attempt_at=bindparam("again_at"), last_error=bindparam("why"))
)
_GIVE_UP: Final = (
    update(OutboxMessage)
    .where(*_is_this)
    .values(state=MailState.FAILED, finished_at=_now, last_error=bindparam("why"))
)
_RELEASE: Final = (
    update(OutboxMessage).where(*_are_these).values(next_attempt_at=_now, attempts=OutboxMessage.attempts - 1)
)
_SELECT_STATE: Final = select(
    func.count().label("length"), func.min(OutboxMessage.created_at).label("oldest")
).where(_is_queued)


class Claimed(NamedTuple):
    draft: Draft
    kind: str
    user_id: int | None
    attempts: int


class QueueState(NamedTuple):
    """`oldest_age` is in seconds; 0 if nothing is queued."""

    length: int
    oldest_age: float


@dataclass(frozen=True, slots=True)
class MailQueue:
    """All methods raise DatabaseUnavailable."""

    db: Database
    clock: Clock

    def claim(self, number: int) -> list[Claimed]:
        """Up to `number` that are due, which no other worker takes before `LEASE` is over."""
        now = self.clock()
        rows = self.db.execute(_CLAIM, {"now": now, "number": number, "leased_until": now + LEASE})
        width = len(Draft._fields)
        return [Claimed(Draft._make(row[:width]), *row[width:]) for row in rows]

    def sent(self, ids: Collection[UUID]) -> None:
        """What they said is forgotten."""
        self.db.execute(_SENT, {"ids": list(ids), "now": self.clock()})

    def not_sent(self, message: Claimed, error: NotDelivered) -> bool:
        """Whether it is tried again: later each time, until a day after it was written."""
        draft, now = message.draft, self.clock()
        last_chance = draft.created_at + GIVEN_UP_AFTER
        parameters: dict[str, Any] = {"message_id": draft.id, "why": _explain(error), "now": now}
        if error.permanent or now >= last_chance:
            self.db.execute(_GIVE_UP, parameters)
            return False
        again_at = min(now + _pause_after(message.attempts), last_chance)
        self.db.execute(_POSTPONE, parameters | {"again_at": again_at})
        return True

    def release(self, ids: Collection[UUID]) -> None:
        """Others may take them at once, as if they had not been claimed."""
        self.db.execute(_RELEASE, {"ids": list(ids), "now": self.clock()})

    def state(self) -> QueueState:
        row = self.db.execute(_SELECT_STATE)[0]
        return QueueState(row.length, (self.clock() - row.oldest).total_seconds() if row.oldest else 0.0)


def _pause_after(attempts: int) -> timedelta:
    """Twice as long each time, and up to half as long again by chance, so that not all come back at once."""
    doubled = FIRST_PAUSE * (1 << min(attempts - 1, _DOUBLINGS))
    return min(doubled * _random.uniform(1, 1.5), LONGEST_PAUSE)


def _explain(error: NotDelivered) -> str:
    """One line; NUL is nothing that PostgreSQL keeps."""
    said = " ".join(error.said.replace("\0", " ").split())
    return f"{error.reason}: {said}"[:MAX_ERROR] if said else error.reason[:MAX_ERROR]
