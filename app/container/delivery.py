import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Final

from app.container.operations import OperationsServices
from app.mail_settings import address_of
from app.services.delivery.account_mails import AccountMails
from app.services.delivery.hub import RevocationHub
from app.services.delivery.letters import Composer, Transport
from app.services.delivery.links import MailLinks
from app.services.delivery.mail_admin import MailAdmin
from app.services.delivery.mail_diagnosis import MailDiagnosis
from app.services.delivery.mail_files import MailFolder
from app.services.delivery.mail_queue import MailQueue
from app.services.delivery.mail_sender import MailSender
from app.services.delivery.mail_templates import MailTemplates
from app.services.delivery.mailer import Mailer
from app.services.delivery.one_time_tokens import OneTimeTokenService
from app.services.delivery.outbox import Outbox
from app.services.delivery.revocations import RevocationFeed
from app.services.operations.doctor import Finding

_DEVELOPMENT_SENDER: Final = "Kanban <no-reply@localhost>"


def _nobody() -> None:
    """Has no sender to wake."""


class DeliveryServices(OperationsServices):
    @cached_property
    def revocation_feed(self) -> RevocationFeed:
        lifetime = timedelta(minutes=self.settings.access_token_expire_minutes)
        return RevocationFeed(self._db, lifetime, self.clock)

    @cached_property
    def revocation_hub(self) -> RevocationHub:
        """Reads on the connections of the background, like health checks and clean-up."""
        feed = replace(self.revocation_feed, db=self.resources.background)
        return RevocationHub(feed, self.resources.direct, self.metrics.delivery.listeners)

    @cached_property
    def mailer(self) -> Mailer:
        wake = self.mail_sender.wake if self.mail_sender else _nobody
        outbox, enabled = Outbox(wake, self.clock), self.mail_transport is not None
        return Mailer(enabled, self.settings.mail_language, self.mail_templates, outbox)

    @cached_property
    def mail_sender(self) -> MailSender | None:
        """None where there is no mail."""
        if self.mail_transport is None:
            return None
        queue = MailQueue(self.resources.background, self.clock)
        return MailSender(queue, self._composer, self.mail_transport, self.metrics.delivery)

    @cached_property
    def mail_transport(self) -> Transport | None:
        """None where there is no mail: in production without SMTP_URL, or with MAIL=false."""
        if not self.settings.mail:
            return None
        if self.settings.smtp_url is not None:
            from app.services.delivery.smtp import SmtpTransport  # noqa: PLC0415 — aiosmtplib takes 1 MiB

            return SmtpTransport(self.settings.smtp_url)
        return self.mail_folder

    @cached_property
    def mail_folder(self) -> MailFolder | None:
        """Where mails of development are; None with SMTP_URL, and in production."""
        settings = self.settings
        if not (settings.development and settings.mail) or settings.smtp_url is not None:
            return None
        from app import devdb  # noqa: PLC0415 — a development dependency, not available on every platform

        return MailFolder(devdb.DATA / "mail")

    @cached_property
    def mail_admin(self) -> MailAdmin:
        return MailAdmin(self._db, self.clock)

    @cached_property
    def mail_diagnosis(self) -> MailDiagnosis:
        return MailDiagnosis(
            self.resources.background, self.clock, self._composer, self.settings.smtp_url, self.mail_transport
        )

    def _examine_mail(self) -> Iterator[Finding]:
        return self.mail_diagnosis.examine()

    @cached_property
    def _composer(self) -> Composer:
        return Composer(address_of(self.settings.mail_from or _DEVELOPMENT_SENDER))

    @cached_property
    def mails(self) -> AccountMails:
        tokens, unwanted = OneTimeTokenService(self.clock), self.settings.unwanted_notices
        return AccountMails(self.mailer, tokens, self.mail_links, unwanted, self.clock)

    @cached_property
    def mail_templates(self) -> MailTemplates:
        return MailTemplates(self.settings.mail_templates)

    @cached_property
    def mail_links(self) -> MailLinks:
        """The service's own pages have fixed paths."""
        settings = self.settings
        if settings.frontend_url is None:
            in_development = f"http://localhost:{os.environ.get('UVICORN_PORT', '8000')}"
            return MailLinks(settings.public_url or in_development)
        return MailLinks(
            settings.frontend_url,
            settings.mail_reset_path,
            settings.mail_verify_path,
            settings.mail_email_path,
            settings.mail_restore_path,
        )
