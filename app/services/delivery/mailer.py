from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.database.transactions import Transaction
from app.errors import MailNotConfigured
from app.services.delivery.languages import language_of
from app.services.delivery.mail_templates import MailTemplates
from app.services.delivery.outbox import Outbox


class Mail(NamedTuple):
    """`kind` is one of `mail_templates.MAILS`, which shows its context. `recipient` is a normalized email.

    `accept_language` is the header of the request; None in what an operator or an administrator starts.
    """

    kind: str
    user_id: int
    recipient: str
    accept_language: str | None
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mailer:
    """Without `enabled`, nothing is sent: notices are left out, and what cannot do without mail `check`s."""

    enabled: bool
    default_language: str
    templates: MailTemplates
    outbox: Outbox

    def check(self) -> None:
        """Raises MailNotConfigured."""
        if not self.enabled:
            raise MailNotConfigured

    def send(self, transaction: Transaction, mail: Mail) -> None:
        """The mail leaves if the transaction is committed."""
        if not self.enabled:
            return
        language = language_of(mail.accept_language, self.default_language)
        rendered = self.templates.render(mail.kind, language, **mail.context)
        self.outbox.add(transaction, mail.recipient, rendered, mail.kind, mail.user_id)
