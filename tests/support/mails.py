"""Mails on their way: put into the outbox as a request would, and looked at past the service."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, text

from app.container import Container
from app.services.delivery.mail_templates import MAILS
from app.services.delivery.mailer import Mail
from tests.support.api import new_email

TOKEN = "hVp2aYw0mZk3nX8sQ1tLr5cJ7dGbEfUiOoPxNvMqKzA"
"""In the link of each mail of a forgotten password here."""

_A_USER = text(
    "INSERT INTO users (email, created_at) VALUES ('whom-mails-are-about@example.com', now()) "
    "ON CONFLICT (email) DO UPDATE SET email = excluded.email RETURNING id"
)


def post(
    container: Container,
    *recipients: str,
    after: Callable[[], object] = lambda: None,
    kind: str = "password_reset",
) -> list[str]:
    """Gives the recipients: those named, or a new one. `after` is what else the transaction does."""
    to = list(recipients) or [new_email()]
    with container.resources.requests.transaction() as transaction:
        user_id = transaction.execute(_A_USER)[0].id
        for recipient in to:
            container.mailer.send(transaction, Mail(kind, user_id, recipient, None, MAILS[kind]))
        after()
    return to


def outbox(database: Engine) -> list[Any]:
    """Its rows, oldest first."""
    with database.connect() as connection:
        return list(connection.execute(text("SELECT * FROM outbox_messages ORDER BY created_at, id")))


def states(database: Engine) -> list[str]:
    return [row.state for row in outbox(database)]
