from datetime import timedelta
from functools import cached_property

from app.container.foundation import Foundation
from app.database.revisions import known_revisions
from app.services.operations.audit import AuditService
from app.services.operations.cleanup import CleanupService
from app.services.operations.doctor import DoctorService
from app.services.operations.health import HealthService


class OperationsServices(Foundation):
    @cached_property
    def audit(self) -> AuditService:
        return AuditService(self._db, self.clock)

    @cached_property
    def health(self) -> HealthService:
        return HealthService(self.resources.background, known_revisions())

    @cached_property
    def cleanup(self) -> CleanupService:
        return CleanupService(
            self.resources.background,
            timedelta(days=self.settings.revoked_session_retention_days),
            timedelta(days=self.settings.audit_retention_days),
            self.clock,
            self.metrics.sessions,
        )

    @cached_property
    def doctor(self) -> DoctorService:
        return DoctorService(self.settings, self.resources.background, self.health, self.clock)
