from abc import abstractmethod
from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property

from app.container.foundation import Foundation
from app.database.revisions import known_revisions
from app.services.operations.audit import AuditService
from app.services.operations.cleanup import CleanupService
from app.services.operations.doctor import DoctorService, Finding
from app.services.operations.erasure import AddressErasure
from app.services.operations.health import HealthService
from app.services.operations.sweeping import Sweeper


class OperationsServices(Foundation):
    @abstractmethod
    def _check_signing(self) -> None:
        """Keys are above operations, so their container provides it, as mail and keys do the rest.

        Raises NotReady.
        """

    @abstractmethod
    def _examine_mail(self) -> Iterator[Finding]:
        """Raises DatabaseUnavailable."""

    @abstractmethod
    def _examine_keys(self) -> Iterator[Finding]:
        """Raises DatabaseUnavailable."""

    def _examine_tables(self) -> Iterator[Finding]:
        yield from self._examine_keys()
        yield from self._examine_mail()

    @cached_property
    def audit(self) -> AuditService:
        return AuditService(self._reads, self.clock)

    @cached_property
    def health(self) -> HealthService:
        return HealthService(self.resources.background, known_revisions(), self._check_signing)

    @cached_property
    def cleanup(self) -> CleanupService:
        return CleanupService(
            self.resources.background,
            Sweeper(
                self.resources.background,
                timedelta(seconds=self.settings.cleanup_interval_seconds),
                self.clock,
            ),
            timedelta(days=self.settings.revoked_session_retention_days),
            timedelta(days=self.settings.audit_retention_days),
            AddressErasure(self.resources.background),
            self.clock,
            self.metrics.sessions,
        )

    @cached_property
    def doctor(self) -> DoctorService:
        return DoctorService(
            self.settings,
            self.resources.background,
            self.resources.standby,
            self.health,
            self.clock,
            self._examine_tables,
        )
