from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property

from app.container.delivery import DeliveryServices
from app.security.keyring import PUBLISHED_EARLIER, Schedule
from app.security.keys import derive, derive_each
from app.security.signing_keys import ENCRYPTION_LABEL
from app.services.keys.admin import KeyAdminService
from app.services.keys.diagnosis import KeyDiagnosis
from app.services.keys.making import KeyMaker
from app.services.keys.reading import KeyReader
from app.services.keys.rewrapping import RewrapService
from app.services.keys.signing import SigningKeys
from app.services.keys.upkeep import KeyUpkeep
from app.services.operations.doctor import Finding

_NAME_LABEL = b"kanban-auth name of the secret key v1"


class KeyServices(DeliveryServices):
    @cached_property
    def signing_keys(self) -> SigningKeys:
        algorithm = self.settings.asymmetric_algorithm
        return SigningKeys(self.resources.background, self._key_reader, algorithm, self.clock)

    @cached_property
    def key_upkeep(self) -> KeyUpkeep:
        algorithm = self.settings.asymmetric_algorithm
        return KeyUpkeep(self.signing_keys, self._key_maker, algorithm, self.clock, self.metrics.keys)

    @cached_property
    def key_admin(self) -> KeyAdminService:
        algorithm = self.settings.asymmetric_algorithm
        return KeyAdminService(
            self.resources.background, self.signing_keys, self._key_maker, algorithm, self.audit, self.clock
        )

    @cached_property
    def rewrapping(self) -> RewrapService:
        return RewrapService(
            self.resources.background, self._key_maker, self._secret_key_id, self.audit, self._key_secrets
        )

    @cached_property
    def _key_diagnosis(self) -> KeyDiagnosis:
        fallbacks = len(self.settings.secret_key_fallbacks)
        return KeyDiagnosis(
            self.resources.background, self.signing_keys, self._secret_key_id, fallbacks, self.clock
        )

    def _check_signing(self) -> None:
        self.signing_keys.check()

    def _examine_keys(self) -> Iterator[Finding]:
        return self._key_diagnosis.examine()

    @cached_property
    def _key_maker(self) -> KeyMaker:
        settings = self.settings
        schedule = Schedule(
            token_lifetime=self._access_lifetime,
            published_for=timedelta(seconds=settings.jwks_max_age_seconds) + PUBLISHED_EARLIER,
            signs_for=timedelta(days=settings.signing_key_days) if settings.signing_key_days else None,
        )
        return KeyMaker(
            self.resources.background,
            self._key_reader,
            schedule,
            self._key_secrets[0],
            self.audit,
            self.clock,
        )

    @cached_property
    def _key_reader(self) -> KeyReader:
        return KeyReader(self._key_secrets, self._access_lifetime)

    @cached_property
    def _key_secrets(self) -> tuple[bytes, ...]:
        return derive_each(self.settings.secret_keys, ENCRYPTION_LABEL)

    @property
    def _access_lifetime(self) -> timedelta:
        return timedelta(minutes=self.settings.access_token_expire_minutes)

    @cached_property
    def _secret_key_id(self) -> str:
        """Says which SECRET_KEY it was, without a hint at what it is."""
        return derive(self.settings.secret_keys[0], _NAME_LABEL)[:8].hex()
