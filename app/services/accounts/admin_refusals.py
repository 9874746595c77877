"""Records that a user without the role has called a route of the administration."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from app.clock import Clock
from app.database.transactions import Database
from app.models.audit import AuditEventName
from app.services.operations.audit import AuditService, UserActor

log = structlog.get_logger(__name__)

WINDOW: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class AdminRefusals:
    """One for each worker. What it has recorded is in the order of time."""

    db: Database
    audit: AuditService
    clock: Clock
    _recorded: dict[int, datetime] = field(default_factory=dict)

    def record(self, actor: UserActor, method: str, route: str) -> None:
        """The first of a user in a minute, so that nobody fills the table. `route` is a template."""
        now = self.clock()
        self._forget(now - WINDOW)
        if actor.user_id in self._recorded:
            return
        self._recorded[actor.user_id] = now
        try:
            self.audit.record(self.db, AuditEventName.ADMIN_REFUSED, actor, None, method=method, route=route)
        except BaseException:
            self._recorded.pop(actor.user_id, None)
            raise
        address = actor.client.ip_address
        log.warning("admin.refused", user_id=actor.user_id, method=method, route=route, ip_address=address)

    def _forget(self, until: datetime) -> None:
        while self._recorded:
            oldest = next(iter(self._recorded))
            if self._recorded[oldest] > until:
                return
            del self._recorded[oldest]
