"""The mails about an account, in the transaction that they tell of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from app.clock import Clock
from app.database.transactions import Transaction
from app.models.one_time_tokens import Purpose
from app.services.delivery.links import MailLinks
from app.services.delivery.mailer import Mail, Mailer
from app.services.delivery.one_time_tokens import OneTimeTokenService
from app.services.operations.audit import Actor, Client

SOMEBODY_ELSE: Final = Client(None, None)
"""Instead of the client of an operator or an administrator, whose address and language are their own."""

_LINKS: Final[Mapping[str, tuple[Purpose, Callable[[MailLinks, str], str]]]] = {
    "password_reset": (Purpose.PASSWORD_RESET, MailLinks.reset),
    "invitation": (Purpose.INVITATION, MailLinks.reset),
    "email_verification": (Purpose.EMAIL_VERIFICATION, MailLinks.verify),
    "email_change": (Purpose.EMAIL_CHANGE, MailLinks.email),
    "email_change_notice": (Purpose.EMAIL_RESTORE, MailLinks.restore),
}


class Recipient(NamedTuple):
    """`email` is where the mail goes. Where there is no such user it is not sent, for the same effort."""

    user_id: int
    email: str


def client_told(actor: Actor, user_id: int) -> Client:
    """For a mail to this user: `SOMEBODY_ELSE` unless they did it themselves."""
    return actor.client if actor.user_id == user_id else SOMEBODY_ELSE


@dataclass(frozen=True, slots=True)
class AccountMails:
    """`unwanted` are the notices that the operator has turned off."""

    mailer: Mailer
    tokens: OneTimeTokenService
    links: MailLinks
    unwanted: frozenset[str]
    clock: Clock

    def check(self) -> None:
        """Raises MailNotConfigured."""
        self.mailer.check()

    def send_link(
        self,
        transaction: Transaction,
        kind: str,
        to: Recipient,
        client: Client,
        *,
        email: str | None = None,
    ) -> None:
        """With a new token; `email` is what the token keeps."""
        if self.mailer.enabled:
            purpose, link_with = _LINKS[kind]
            token, expires_at = self.tokens.issue(transaction, purpose, to.user_id, email=email)
            link = link_with(self.links, token)
            self._send(transaction, kind, to, client, link=link, expires_at=expires_at)

    def notify(self, transaction: Transaction, kind: str, to: Recipient, client: Client) -> None:
        if kind not in self.unwanted:
            self._send(transaction, kind, to, client)

    def _send(
        self, transaction: Transaction, kind: str, to: Recipient, client: Client, **context: Any
    ) -> None:
        context |= {"at": self.clock(), "client": client}
        self.mailer.send(transaction, Mail(kind, to.user_id, to.email, client.accept_language, context))
