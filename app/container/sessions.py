from datetime import timedelta
from functools import cached_property

from app.container.credentials import CredentialServices
from app.security.keys import token_keys
from app.security.tokens import Parties
from app.services.sessions.admin import SessionAdminService
from app.services.sessions.introspection import IntrospectionService
from app.services.sessions.limit import SessionLimit
from app.services.sessions.listing import SessionService
from app.services.sessions.login import LoginService
from app.services.sessions.new_devices import NewDeviceNotices
from app.services.sessions.opening import SessionOpener
from app.services.sessions.own_password import OwnPasswordService
from app.services.sessions.revocation import RevocationService
from app.services.sessions.rotation import RotationService
from app.services.sessions.tokens import SessionLifetime, TokenService


class SessionServices(CredentialServices):
    @cached_property
    def tokens(self) -> TokenService:
        settings = self.settings
        return TokenService(
            token_keys(settings.secret_keys, settings.shared_secret, settings.jwt_algorithm),
            self.signing_keys,
            Parties(settings.jwt_issuer, settings.jwt_audience),
            self._access_lifetime,
            settings.access_token_email,
            self.clock,
            self.metrics.keys,
        )

    @cached_property
    def introspection(self) -> IntrospectionService:
        return IntrospectionService(self.tokens, self.profile)

    @cached_property
    def login(self) -> LoginService:
        return LoginService(
            self._db,
            self._passwords,
            self._guesses,
            self.tokens,
            self._opener,
            self.emails,
            NewDeviceNotices(self.mails, self.clock),
            SessionLimit(self.settings.sessions_per_user, self.revocation, self.clock),
            self.revocation,
            self.audit,
            self.metrics.sessions,
            self.settings.require_verified_email,
        )

    @cached_property
    def own_password(self) -> OwnPasswordService:
        return OwnPasswordService(self.password_change, self._opener, self.tokens)

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
        return RevocationService(
            self._db, self.revocation_feed, self.mails, self.audit, self.clock, self.metrics.sessions
        )

    @property
    def _session_revoker(self) -> RevocationService:
        return self.revocation

    @cached_property
    def sessions(self) -> SessionService:
        return SessionService(self._db, self.clock)

    @cached_property
    def session_admin(self) -> SessionAdminService:
        return SessionAdminService(self._db, self.admin, self.sessions, self.revocation, self._admin_actions)

    @cached_property
    def _opener(self) -> SessionOpener:
        return SessionOpener(self._session_lifetime, self.clock)

    @cached_property
    def _session_lifetime(self) -> SessionLifetime:
        return SessionLifetime(
            idle=timedelta(days=self.settings.refresh_token_expire_days),
            absolute=timedelta(days=self.settings.session_max_days),
        )
