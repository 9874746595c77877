from dataclasses import replace
from datetime import timedelta
from functools import cached_property

from app.container.operations import OperationsServices
from app.services.delivery.hub import RevocationHub
from app.services.delivery.revocations import RevocationFeed


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
