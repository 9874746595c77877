from abc import abstractmethod
from functools import cached_property

from app.container.protection import ProtectionServices
from app.services.accounts.admin import AdminService
from app.services.accounts.admin_actions import AdminActions
from app.services.accounts.admin_refusals import AdminRefusals
from app.services.accounts.bootstrap import BootstrapService
from app.services.accounts.deletion import DeletionService
from app.services.accounts.imports import ImportService
from app.services.accounts.profile import ProfileService
from app.services.accounts.registration import RegistrationService
from app.services.accounts.session_revoker import SessionRevoker


class AccountServices(ProtectionServices):
    @property
    @abstractmethod
    def _session_revoker(self) -> SessionRevoker:
        """Sessions are above accounts, so the container of sessions provides it."""

    @cached_property
    def registration(self) -> RegistrationService:
        return RegistrationService(
            self._db,
            self._throttle,
            self._guesses,
            self._policy,
            self._hashing,
            self.mails,
            self.audit,
            self.clock,
            self.metrics.accounts,
        )

    @cached_property
    def profile(self) -> ProfileService:
        return ProfileService(self._db, self.clock)

    @cached_property
    def admin(self) -> AdminService:
        return AdminService(
            self._db,
            self._reads,
            self.registration,
            self._deletion,
            self._session_revoker,
            self.revocation_feed,
            self.mails,
            self.audit,
            self._admin_actions,
        )

    @cached_property
    def admin_refusals(self) -> AdminRefusals:
        return AdminRefusals(self._db, self.audit, self.clock)

    @cached_property
    def bootstrap(self) -> BootstrapService:
        users = self.settings.bootstrap_users
        return BootstrapService(self._db, self.registration, self._policy, self.audit, users)

    @cached_property
    def imports(self) -> ImportService:
        return ImportService(self._db, self._guesses, self._hashing, self.clock, self.metrics.accounts)

    @cached_property
    def _deletion(self) -> DeletionService:
        return DeletionService(self.revocation_feed, self.mails, self.audit)

    @cached_property
    def _admin_actions(self) -> AdminActions:
        return AdminActions(self.metrics.accounts)
