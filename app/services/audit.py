"""The audit trail: who did what to whom, written in the transaction that does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Connection, Row, insert, select

from app.clock import Clock
from app.database import Database
from app.models import AuditEvent
from app.models.audit import AuditEventName

_INSERT: Final = insert(AuditEvent)


class Client(NamedTuple):
    """Where a request came from, as far as it says."""

    ip_address: str | None
    user_agent: str | None


class Actor(NamedTuple):
    """Who acts: a user, or an operator at the command line (`user_id` is None)."""

    user_id: int | None
    client: Client


class AuditFilter(NamedTuple):
    user_id: int | None = None
    actor_id: int | None = None
    event: AuditEventName | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditService:
    db: Database
    clock: Clock

    def record(
        self,
        within: Connection | Database,
        event: AuditEventName,
        actor: Actor,
        user_id: int | None,
        **details: Any,
    ) -> None:
        """`details` are JSON, and hold no secret and no email."""
        values = {
            "at": self.clock(),
            "actor_id": actor.user_id,
            "user_id": user_id,
            "event": event,
            "request_id": structlog.contextvars.get_contextvars().get("request_id"),
            "details": details,
            **actor.client._asdict(),
        }
        within.execute(_INSERT, values)

    def list(self, wanted: AuditFilter, *, before: int | None, limit: int) -> Sequence[Row[Any]]:
        """Newest first."""
        statement = select(*AuditEvent.__table__.columns).order_by(AuditEvent.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(AuditEvent.id < before)
        if wanted.user_id is not None:
            statement = statement.where(AuditEvent.user_id == wanted.user_id)
        if wanted.actor_id is not None:
            statement = statement.where(AuditEvent.actor_id == wanted.actor_id)
        if wanted.event is not None:
            statement = statement.where(AuditEvent.event == wanted.event)
        if wanted.since is not None:
            statement = statement.where(AuditEvent.at >= wanted.since)
        if wanted.until is not None:
            statement = statement.where(AuditEvent.at < wanted.until)
        return self.db.execute(statement)
