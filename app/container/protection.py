from functools import cached_property

from app.container.keys import KeyServices
from app.security.devices import DeviceCookies
from app.security.keys import derive, derive_each
from app.security.throttle_keys import ThrottleKeys
from app.services.protection.failures import FailureCounter
from app.services.protection.guesses import GuessService
from app.services.protection.password_policy import PasswordPolicy
from app.services.protection.throttling import Bucket, ThrottleService

_THROTTLE_LABEL = b"kanban-auth throttle v1"
_DEVICE_LABEL = b"kanban-auth device v1"


class ProtectionServices(KeyServices):
    @cached_property
    def _policy(self) -> PasswordPolicy:
        return PasswordPolicy(
            self.settings.password_min_length,
            blocklist=self.settings.password_blocklist,
            issuer=self.settings.jwt_issuer,
        )

    @cached_property
    def _throttle(self) -> ThrottleService:
        rates = {bucket: getattr(self.settings, f"throttle_{bucket}") for bucket in Bucket}
        return ThrottleService(
            self._db,
            ThrottleKeys(derive(self.settings.secret_keys[0], _THROTTLE_LABEL)),
            rates if self.settings.throttles else {},
            self.clock,
            self.metrics.throttles,
        )

    @cached_property
    def _guesses(self) -> GuessService:
        devices = DeviceCookies(derive_each(self.settings.secret_keys, _DEVICE_LABEL))
        return GuessService(
            self._db, self._throttle, FailureCounter(self._db, self.clock), devices, self.audit
        )
