"""Logins."""

from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

import structlog
from sqlalchemy import bindparam, select

from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import EmailNotVerified, InvalidCredentials, InvalidRefreshToken
from app.models import LoginSession
from app.models.audit import AuditEventName
from app.models.sessions import RevocationReason
from app.models.users import Role
from app.security.tokens import RefreshClaims
from app.services.credentials.emails import EmailService
from app.services.credentials.passwords import PasswordService, VerifiedUser
from app.services.operations.audit import AuditService, Client, UserActor
from app.services.protection.guesses import Guess, GuessService
from app.services.sessions.limit import SessionLimit
from app.services.sessions.new_devices import NewDeviceNotices
from app.services.sessions.opening import OpenedSession, SessionOpener
from app.services.sessions.revocation import Revocation, RevocationService
from app.services.sessions.tokens import TokenPair, TokenService
from app.telemetry.metrics import SessionMetrics

log = structlog.get_logger(__name__)

# Not an older token: whoever has one may be a thief, and must not end the session of its owner.
_SELECT_BY_LIVE_TOKEN: Final = select(LoginSession.id).where(
    LoginSession.id == bindparam("session_id"), LoginSession.token_id == bindparam("token_id")
)


class LoginCookies(NamedTuple):
    """What the browser has from an earlier login.

    The session of a live `refresh_token` of the same user is replaced.
    """

    refresh_token: str | None = None
    device: str | None = None


class Login(NamedTuple):
    """`device` is for the browser to keep."""

    pair: TokenPair
    device: str


@dataclass(frozen=True, slots=True)
class LoginService:
    db: Database
    passwords: PasswordService
    guesses: GuessService
    tokens: TokenService
    opener: SessionOpener
    emails: EmailService
    new_devices: NewDeviceNotices
    limit: SessionLimit
    revocation: RevocationService
    audit: AuditService
    metrics: SessionMetrics
    only_verified: bool

    def log_in(self, username: str, password: str, client: Client, cookies: LoginCookies) -> Login:
        """Raises InvalidCredentials, EmailNotVerified, TooManyRequests, NotReady."""
        self.tokens.check_ready()
        found = self.passwords.find(username)
        user_id = found[0].id if found else None
        is_guest = bool(found) and found[0].role == Role.GUEST
        with self.guesses.login(username, user_id, cookies.device, client, is_public=is_guest) as guess:
            user = self.passwords.verify_login(found, password, guess)
            if self.only_verified and not user.email_verified:
                self._refuse(user, client)
            pair = self._open_session(user, guess, self._presented(cookies.refresh_token))
        return Login(pair, self.guesses.device_of(guess, user.id))

    def _refuse(self, user: VerifiedUser, client: Client) -> NoReturn:
        self.passwords.record_failed_login("email_not_verified", user.id, client)
        self.emails.remind(user.id, user.email, client)
        raise EmailNotVerified

    def _open_session(self, user: VerifiedUser, guess: Guess, presented: RefreshClaims | None) -> TokenPair:
        opened = self._open(user, guess, presented)
        if opened is None:  # since the verification, disabled, deleted or given a new password
            self.passwords.record_failed_login("disabled", user.id, guess.client)
            raise InvalidCredentials
        return self.tokens.issue(*opened)

    @retry_conflicts
    def _open(
        self, user: VerifiedUser, guess: Guess, presented: RefreshClaims | None
    ) -> OpenedSession | None:
        """None if the user has changed since the password was verified."""
        with self.db.transaction() as transaction:
            opened = self.opener.open(transaction, user, guess.client)
            if opened is None:
                return None
            session_id = str(opened.refresh.session_id)
            actor, event = UserActor(user.id, guess.client), AuditEventName.LOGIN_SUCCEEDED
            self.audit.record(transaction, event, actor, user.id, session_id=session_id)
            if presented is not None and presented.user_id == user.id:
                self._replace(transaction, actor, presented)
            self.limit.enforce(transaction, actor, opened.refresh.session_id)
            self.new_devices.send(transaction, user, guess, opened.refresh.session_id)
            self.guesses.forgive(transaction, guess)  # last, as the address is shared by many
            transaction.after_commit(lambda: self._report(user.id, session_id))
        return opened

    def _presented(self, refresh_token: str | None) -> RefreshClaims | None:
        try:
            return self.tokens.verify_refresh(refresh_token) if refresh_token else None
        except InvalidRefreshToken:
            return None

    def _replace(self, transaction: Transaction, actor: UserActor, presented: RefreshClaims) -> None:
        parameters = {"session_id": presented.session_id, "token_id": presented.token_id}
        if transaction.execute(_SELECT_BY_LIVE_TOKEN, parameters):
            only = [presented.session_id]
            revocation = Revocation(actor, actor.user_id, RevocationReason.REPLACED, only=only)
            self.revocation.revoke_within(transaction, revocation)

    def _report(self, user_id: int, session_id: str) -> None:
        self.metrics.logins.labels("password").inc()
        log.info("login.succeeded", user_id=user_id, session_id=session_id)
