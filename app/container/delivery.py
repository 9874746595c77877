from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Final

from app.container.operations import OperationsServices
from app.services.delivery.hub import RevocationHub
from app.services.delivery.links import MailLinks
from app.services.delivery.mail_templates import MailTemplates
from app.services.delivery.mailer import Mailer
from app.services.delivery.outbox import Outbox
from app.services.delivery.revocations import RevocationFeed

_DEVELOPMENT_URL: Final = "http://localhost:8000"


class DeliveryServices(OperationsServices):
    @cached_property
    def revocation_feed(self) -> RevocationFeed:
        lifetime = timedelta(minutes=self.settings.access_token_expire_minutes)
        return RevocationFeed(self._db, lifetime, self.clock)

    @cached_property
    def revocation_hub(self) -> RevocationHub:
        """Reads on the connections of the background, like health checks and clean-up."""
        feed = replace(self.revocation_feed, db=self.resources.background)
        return RevocationHub(feed, self.metrics.delivery.listeners)

    @cached_property
    def mailer(self) -> Mailer:
        enabled = self.settings.development or self.settings.smtp_url is not None
        return Mailer(enabled, self.settings.mail_language, self.mail_templates, self._outbox)

    @cached_property
    def _outbox(self) -> Outbox:
        return Outbox(lambda: None, self.clock)

    @cached_property
    def mail_templates(self) -> MailTemplates:
        return MailTemplates(self.settings.mail_templates)

    @cached_property
    def mail_links(self) -> MailLinks:
        """The service's own pages have fixed paths."""
        settings = self.settings
        if settings.frontend_url is None:
            return MailLinks(settings.public_url or _DEVELOPMENT_URL)
        return MailLinks(
            settings.frontend_url,
            settings.mail_reset_path,
            settings.mail_verify_path,
            settings.mail_email_path,
            settings.mail_restore_path,
        )
