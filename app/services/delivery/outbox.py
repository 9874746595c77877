"""Mails on their way: each is written in the transaction that it tells of, and sent after its commit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from sqlalchemy import insert

from app.clock import Clock
from app.database.transactions import Transaction
from app.models import OutboxMessage
from app.models.outbox import MailState
from app.services.delivery.mail_templates import RenderedMail

_INSERT: Final = insert(OutboxMessage)


@dataclass(frozen=True, slots=True)
class Outbox:
    """`wake` tells the sender of this process, if it has one, that there is something to send."""

    wake: Callable[[], None]
    clock: Clock

    def add(
        self, transaction: Transaction, recipient: str, rendered: RenderedMail, kind: str, user_id: int | None
    ) -> None:
        """`recipient` is a normalized email."""
        now = self.clock()
        values = {
            "id": uuid4(),
            "user_id": user_id,
            "kind": kind,
            "recipient": recipient,
            "subject": rendered.subject,
            "text_body": rendered.text,
            "html_body": rendered.html,
            "created_at": now,
            "next_attempt_at": now,
            "attempts": 0,
            "state": MailState.QUEUED,
        }
        transaction.execute(_INSERT, values)
        transaction.after_commit(self.wake)
