"""What the doctor says of mail."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import func, select

from app.clock import Clock
from app.database.transactions import Database
from app.mail_settings import SmtpServer
from app.models import OutboxMessage
from app.models.outbox import MailState
from app.services.delivery.letters import Composer, Draft, NotDelivered, Transport
from app.services.operations.doctor import Finding, fault, ok, warning

_LATE: Final = timedelta(minutes=15)
_SELECT: Final = select(
    func.count().filter(OutboxMessage.state == MailState.QUEUED).label("queued"),
    func.count().filter(OutboxMessage.state == MailState.FAILED).label("failed"),
    func.min(OutboxMessage.created_at).filter(OutboxMessage.state == MailState.QUEUED).label("oldest"),
)
_TEXT: Final = "Sent by: python -m app.cli doctor --send-test\n\nMails of this service arrive.\n"


@dataclass(frozen=True, slots=True)
class MailDiagnosis:
    """`transport` is None where there is no mail, and `server` also where mails are files."""

    db: Database
    clock: Clock
    composer: Composer
    server: SmtpServer | None
    transport: Transport | None

    def examine(self) -> Iterator[Finding]:
        """Raises DatabaseUnavailable."""
        yield self._configuration()
        row, now = self.db.execute(_SELECT)[0], self.clock()
        said = f"{row.queued} to be sent, {row.failed} given up on in the last week"
        late = row.oldest is not None and now - row.oldest > _LATE
        if late:
            said += f"; the oldest waits since {row.oldest:%Y-%m-%d %H:%M} UTC"
        yield warning("outbox", said) if late or row.failed else ok("outbox", said)

    def _configuration(self) -> Finding:
        server = self.server
        if self.transport is None:
            said = "SMTP_URL is unset: nobody can reset a password, and no notice is sent"
            return warning("mail", said)
        if server is None:
            return ok("mail", "goes to files, as SMTP_URL is unset; in production it would go nowhere")
        by = {"implicit": "TLS", "starttls": "STARTTLS", "off": "no encryption"}[server.tls]
        said = f"goes to {server.host}:{server.port} by {by}, from {self.composer.sender.addr_spec}"
        return (
            warning("mail", said) if server.tls == "off" and not _is_local(server.host) else ok("mail", said)
        )

    async def send_test(self, recipient: str) -> Finding:
        """Past the outbox. `recipient` is a normalized email."""
        if self.transport is None:
            return fault("test mail", "not sent, as SMTP_URL is unset")
        draft = Draft(uuid4(), recipient, "Test of the Kanban Auth Service", _TEXT, None, self.clock())
        try:
            await self.transport.send(self.composer.compose(draft))
        except NotDelivered as error:
            said = f"{error.reason}: {error.said}" if error.said else error.reason
            return fault("test mail", f"not sent: {said}")
        finally:
            await self.transport.close()
        return ok("test mail", f"taken for {recipient}")


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
