"""Mails on their way: each is written in the transaction that it tells of, and sent after its commit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from sqlalchemy import bindparam, insert, select

from app.clock import Clock
from app.database.transactions import Transaction
from app.models import OutboxMessage, User
from app.models.outbox import MailState
from app.services.delivery.mail_templates import RenderedMail

_NAMES: Final = (
    *("id", "kind", "recipient", "subject", "text_body", "html_body"),
    *("created_at", "next_attempt_at", "attempts", "state"),
)
_message = select(
    User.id.label("user_id"),
    *(bindparam(name, type_=getattr(OutboxMessage, name).type).label(name) for name in _NAMES),
).where(User.id == bindparam("owner"))
_INSERT: Final = insert(OutboxMessage).from_select(["user_id", *_NAMES], _message)


@dataclass(frozen=True, slots=True)
class Outbox:
    """`wake` tells the sender of this process, if it has one, that there is something to send."""

    wake: Callable[[], None]
    clock: Clock

    def add(
        self, transaction: Transaction, recipient: str, rendered: RenderedMail, kind: str, user_id: int
    ) -> None:
        """`recipient` is a normalized email. Where there is no such user, nothing is sent."""
        now = self.clock()
        values = {
            "id": uuid4(),
            "owner": user_id,
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
