"""Builds the services from the settings, for the web application, the command line and the tests."""

from datetime import timedelta
from functools import cached_property
from typing import Final

from app.clock import Clock, utc_now
from app.config import Settings
from app.database.revisions import known_revisions
from app.models.sessions import RevocationReason
from app.resources import open_resources
from app.security.keys import derive_keys
from app.services.accounts.admin import AdminService
from app.services.accounts.admin_actions import AdminActions
from app.services.accounts.deletion import DeletionService
from app.services.accounts.imports import ImportService
from app.services.accounts.profile import ProfileService
from app.services.accounts.registration import RegistrationService
from app.services.credentials.account_closure import AccountClosureService
from app.services.credentials.password_change import PasswordChangeService
from app.services.credentials.passwords import PasswordService
from app.services.operations.audit import AuditService
from app.services.operations.cleanup import CleanupService
from app.services.operations.doctor import DoctorService
from app.services.operations.health import HealthService
from app.services.protection.password_policy import PasswordPolicy
from app.services.sessions.admin import SessionAdminService
from app.services.sessions.limit import SessionLimit
from app.services.sessions.listing import SessionService
from app.services.sessions.login import LoginService
from app.services.sessions.revocation import RevocationService
from app.services.sessions.rotation import RotationService
from app.services.sessions.tokens import SessionLifetime, TokenService
from app.telemetry.metrics import Metrics
from app.telemetry.workers import Worker

VERSION: Final = "1.0.0"


class Container:
    """Creates each service on first access and caches it."""

    def __init__(
        self, settings: Settings, clock: Clock = utc_now, worker: Worker | None = None, *, web: bool = False
    ) -> None:
        """Opens no connection. With `web`, the services run in greenlets on an event loop.

        `worker` is given if several processes share their metrics.
        """
        self.settings = settings
        self.clock = clock
        self.worker = worker
        self.metrics = Metrics(RevocationReason, VERSION, worker)
        self.resources = open_resources(settings, self.metrics, on_event_loop=web)
        self._db = self.resources.requests
        self._hashing = self.resources.hashing

    def close(self) -> None:
        self.resources.close()
        if self.worker is not None:
            self.worker.leave()

    @cached_property
    def registration(self) -> RegistrationService:
        return RegistrationService(
            self._db, self._policy, self._hashing, self.audit, self.clock, self.metrics.accounts
        )

    @cached_property
    def profile(self) -> ProfileService:
        return ProfileService(self._db, self.clock)

    @cached_property
    def admin(self) -> AdminService:
        return AdminService(
            self._db, self.registration, self._deletion, self.revocation, self.audit, self._admin_actions
        )

    @cached_property
    def imports(self) -> ImportService:
        return ImportService(self._db, self._hashing, self.clock, self.metrics.accounts)

    @cached_property
    def password_change(self) -> PasswordChangeService:
        return PasswordChangeService(
            self._db,
            self._passwords,
            self._policy,
            self._hashing,
            self.revocation,
            self.audit,
            self._admin_actions,
        )

    @cached_property
    def account_closure(self) -> AccountClosureService:
        return AccountClosureService(self._db, self._passwords, self._deletion)

    @cached_property
    def tokens(self) -> TokenService:
        keys = derive_keys(
            self.settings.secret_key.get_secret_value(),
            algorithm=self.settings.jwt_algorithm,
            issuer=self.settings.jwt_issuer,
            audience=self.settings.jwt_audience,
        )
        lifetime = timedelta(minutes=self.settings.access_token_expire_minutes)
        return TokenService(keys, lifetime, self.clock)

    @cached_property
    def login(self) -> LoginService:
        return LoginService(
            self._db,
            self._passwords,
            self.tokens,
            self._session_lifetime,
            SessionLimit(self.settings.sessions_per_user, self.revocation, self.clock),
            self.revocation,
            self.audit,
            self.clock,
            self.metrics.sessions,
        )

    @cached_property
    def rotation(self) -> RotationService:
        return RotationService(
            self._db,
            self.revocation,
            self.tokens,
            self._session_lifetime,
            timedelta(seconds=self.settings.refresh_reuse_leeway_seconds),
            self.clock,
            self.metrics.sessions,
        )

    @cached_property
    def revocation(self) -> RevocationService:
        return RevocationService(self._db, self.audit, self.clock, self.metrics.sessions)

    @cached_property
    def sessions(self) -> SessionService:
        return SessionService(self._db, self.clock)

    @cached_property
    def session_admin(self) -> SessionAdminService:
        return SessionAdminService(self._db, self.admin, self.sessions, self.revocation, self._admin_actions)

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

    @cached_property
    def _policy(self) -> PasswordPolicy:
        return PasswordPolicy(self.settings.password_min_length)

    @cached_property
    def _passwords(self) -> PasswordService:
        return PasswordService(self._db, self._hashing, self.audit, self.metrics.sessions)

    @cached_property
    def _deletion(self) -> DeletionService:
        return DeletionService(self.audit)

    @cached_property
    def _admin_actions(self) -> AdminActions:
        return AdminActions(self.metrics.accounts)

    @cached_property
    def _session_lifetime(self) -> SessionLifetime:
        return SessionLifetime(
            idle=timedelta(days=self.settings.refresh_token_expire_days),
            absolute=timedelta(days=self.settings.session_max_days),
        )
