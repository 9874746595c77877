"""Counts and logs the actions of administrators after the commit."""

from dataclasses import dataclass
from typing import Any

import structlog

from app.database.transactions import Transaction
from app.services.operations.audit import Actor
from app.telemetry.metrics import AccountMetrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AdminActions:
    metrics: AccountMetrics

    def report(
        self, transaction: Transaction, action: str, actor: Actor, user_id: int, **details: Any
    ) -> None:
        """`action` is one of `ADMIN_ACTIONS`."""

        def report() -> None:
            self.metrics.admin_actions.labels(action).inc()
            log.info("admin.action", action=action, actor_id=actor.user_id, user_id=user_id, **details)

        transaction.after_commit(report)
