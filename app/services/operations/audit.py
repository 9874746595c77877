"""The audit trail: who did what to whom, written in the same transaction as the change."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, Select, func, insert, select

from app.clock import Clock
from app.database.transactions import Executor, Rows
from app.models import AuditEvent
from app.models.audit import AuditEventName
from app.telemetry.logs import REQUEST_ID

DISORDER: Final = timedelta(hours=1)
"""By how much clocks and transactions may let the order of times differ from that of ids."""
MAX_ID: Final = 2**63 - 1

_INSERT: Final = insert(AuditEvent)


class Client(NamedTuple):
    """The sender of a request, as far as the request says."""

    ip_address: str | None
    user_agent: str | None
    accept_language: str | None = None


class UserActor(NamedTuple):
    """A signed-in user. A token that a sibling made belongs to no session."""

    user_id: int
    client: Client
    session_id: UUID | None = None


class Operator(NamedTuple):
    """A person who uses the command line."""

    client: Client
    user_id: None = None


class Anonymous(NamedTuple):
    """The sender of a request without a signed-in user, such as a failed login."""

    client: Client
    user_id: None = None


class Service(NamedTuple):
    """The service itself, in the background."""

    client: Client
    user_id: None = None


SERVICE: Final = Service(Client(None, None))
Actor = UserActor | Operator | Anonymous | Service


class AuditFilter(NamedTuple):
    """`since` is inclusive, `until` is exclusive."""

    user_id: int | None = None
    actor_id: int | None = None
    event: AuditEventName | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditService:
    reads: Executor
    clock: Clock

    def record(
        self, within: Executor, event: AuditEventName, actor: Actor, user_id: int | None, **details: Any
    ) -> None:
        """`details` are stored as JSON, and must not contain secrets or emails."""
        values = {
            "at": self.clock(),
            "actor_id": actor.user_id,
            "user_id": user_id,
            "event": event,
            "request_id": REQUEST_ID.get(),
            "details": details,
            "ip_address": actor.client.ip_address,
            "user_agent": actor.client.user_agent,
        }
        within.execute(_INSERT, values)

    def list(self, filters: AuditFilter, *, before: int | None, limit: int) -> Rows:
        """Newest first."""
        statement = select(*AuditEvent.__table__.columns).order_by(AuditEvent.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(AuditEvent.id < before)
        if filters.user_id is not None:
            statement = statement.where(AuditEvent.user_id == filters.user_id)
        if filters.actor_id is not None:
            statement = statement.where(AuditEvent.actor_id == filters.actor_id)
        if filters.event is not None:
            statement = statement.where(AuditEvent.event == filters.event)
        if filters.since is not None:
            statement = statement.where(AuditEvent.at >= filters.since, _not_long_before(filters.since))
        if filters.until is not None:
            statement = statement.where(AuditEvent.at < filters.until, _not_long_after(filters.until))
        return self.reads.execute(statement)


# Ids go with the time, which PostgreSQL does not know: it would look at all that is newer, one by one.
def _not_long_before(moment: datetime) -> ColumnElement[bool]:
    older = select(AuditEvent.id).where(AuditEvent.at < moment - DISORDER).order_by(AuditEvent.at.desc())
    return AuditEvent.id > func.coalesce(_first(older), 0)


def _not_long_after(moment: datetime) -> ColumnElement[bool]:
    newer = select(AuditEvent.id).where(AuditEvent.at > moment + DISORDER).order_by(AuditEvent.at)
    return AuditEvent.id < func.coalesce(_first(newer), MAX_ID)


def _first(ids: Select[int]) -> ScalarSelect[int]:
    return ids.limit(1).correlate(None).scalar_subquery()
