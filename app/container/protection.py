from functools import cached_property

from app.container.delivery import DeliveryServices
from app.services.protection.password_policy import PasswordPolicy


class ProtectionServices(DeliveryServices):
    @cached_property
    def _policy(self) -> PasswordPolicy:
        return PasswordPolicy(
            self.settings.password_min_length,
            blocklist=self.settings.password_blocklist,
            issuer=self.settings.jwt_issuer,
        )
