from functools import cached_property

from app.container.accounts import AccountServices
from app.security.emails import normalize_email
from app.services.credentials.account_closure import AccountClosureService
from app.services.credentials.emails import EmailService
from app.services.credentials.mail_requests import MailRequests
from app.services.credentials.password_change import PasswordChangeService
from app.services.credentials.password_recovery import PasswordRecoveryService
from app.services.credentials.passwords import PasswordService
from app.services.credentials.service_tokens import ServiceTokenService
from app.services.credentials.unlocking import UnlockService


class CredentialServices(AccountServices):
    @cached_property
    def password_change(self) -> PasswordChangeService:
        return PasswordChangeService(
            self._db,
            self._passwords,
            self._guesses,
            self._policy,
            self._hashing,
            self._session_revoker,
            self.mails,
            self.audit,
            self._admin_actions,
        )

    @cached_property
    def password_recovery(self) -> PasswordRecoveryService:
        return PasswordRecoveryService(
            self._db,
            self._mail_requests,
            self.mails,
            self._policy,
            self._hashing,
            self._guesses,
            self._session_revoker,
            self.audit,
            self._admin_actions,
            self.clock,
        )

    @cached_property
    def emails(self) -> EmailService:
        return EmailService(
            self._db,
            self._mail_requests,
            self._passwords,
            self.mails,
            self._guesses,
            self._session_revoker,
            self.audit,
            self.clock,
            frozenset(normalize_email(user.email) for user in self.settings.bootstrap_users),
        )

    @cached_property
    def _mail_requests(self) -> MailRequests:
        return MailRequests(self._throttle)

    @cached_property
    def unlocking(self) -> UnlockService:
        return UnlockService(self._db, self._guesses, self.audit, self._admin_actions)

    @cached_property
    def account_closure(self) -> AccountClosureService:
        return AccountClosureService(self._db, self._passwords, self._deletion)

    @cached_property
    def service_tokens(self) -> ServiceTokenService:
        return ServiceTokenService(self._db, self.audit, self.clock)

    @cached_property
    def _passwords(self) -> PasswordService:
        return PasswordService(self._db, self._guesses, self._hashing, self.audit, self.metrics.sessions)
