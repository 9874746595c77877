"""Takes the addresses and user agents of deleted users out of the audit trail; the events stay."""

from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, Executable, bindparam, or_, select, update

from app.database.transactions import Database
from app.models import AuditEvent
from app.models.audit import AuditEventName

log = structlog.get_logger(__name__)

BATCH_SIZE: Final = 1000
_MARK: Final = {"addresses_erased": True}
_user_id: Final = bindparam("deleted_id", type_=AuditEvent.user_id.type)


def _erase_batch(*whose: ColumnElement[bool]) -> Executable:
    batch = select(AuditEvent.id).where(*whose, AuditEvent.id > bindparam("after"))
    ids = batch.order_by(AuditEvent.id).limit(BATCH_SIZE)
    erased = update(AuditEvent).where(AuditEvent.id.in_(ids)).values(ip_address=None, user_agent=None)
    return erased.returning(AuditEvent.id)


# The mark is in the deletion's own event, so that no table of things to do is needed.
_SELECT_DUE: Final = (
    select(AuditEvent.id, AuditEvent.user_id)
    .where(AuditEvent.event == AuditEventName.USER_DELETED, ~AuditEvent.details.contains(_MARK))
    .order_by(AuditEvent.id)
    .limit(BATCH_SIZE)
)
_ERASE_DEEDS: Final = _erase_batch(
    AuditEvent.actor_id == _user_id,
    or_(AuditEvent.ip_address.is_not(None), AuditEvent.user_agent.is_not(None)),
)
# Failed logins and the like. What an administrator did to the user keeps the administrator's address.
_ERASE_ATTEMPTS: Final = _erase_batch(
    AuditEvent.user_id == _user_id, AuditEvent.actor_id.is_(None), AuditEvent.ip_address.is_not(None)
)
_MARK_DONE: Final = (
    update(AuditEvent)
    .where(AuditEvent.id == bindparam("event_id"))
    .values(details=AuditEvent.details.concat(_MARK))
)


@dataclass(frozen=True, slots=True)
class AddressErasure:
    db: Database

    def run(self) -> None:
        """In batches; the next run goes on where this one breaks off. Raises DatabaseUnavailable."""
        while due := self.db.execute(_SELECT_DUE):
            for event in due:
                for statement in (_ERASE_DEEDS, _ERASE_ATTEMPTS):
                    self._erase(statement, event.user_id)
                self.db.execute(_MARK_DONE, {"event_id": event.id})
            log.info("audit.addresses_erased", users=len(due))

    def _erase(self, statement: Executable, user_id: int) -> None:
        parameters: dict[str, Any] = {"deleted_id": user_id, "after": 0}
        while erased := self.db.execute(statement, parameters):
            parameters["after"] = max(row.id for row in erased)
            if len(erased) < BATCH_SIZE:
                return
