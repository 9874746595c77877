"""Opens sessions."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import uuid4

import structlog
from sqlalchemy import DateTime, bindparam, insert, select

from app.clock import Clock
from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import InvalidCredentials, InvalidRefreshToken
from app.models import LoginSession, User
from app.models.audit import AuditEventName
from app.models.sessions import RevocationReason
from app.security.tokens import RefreshClaims
from app.services.credentials.passwords import PasswordService, VerifiedUser
from app.services.operations.audit import AuditService, Client, UserActor
from app.services.protection.guesses import Guess, GuessService
from app.services.sessions.limit import SessionLimit
from app.services.sessions.revocation import Revocation, RevocationService
from app.services.sessions.tokens import SessionLifetime, TokenPair, TokenService, unix_seconds
from app.telemetry.metrics import SessionMetrics

log = structlog.get_logger(__name__)

# The lock on the user's row makes a login wait for a concurrent change of the user, and vice versa.
_opened = (
    select(
        bindparam("session_id").label("id"),
        User.id.label("user_id"),
        bindparam("token_id").label("token_id"),
        bindparam("now", type_=DateTime(timezone=True)).label("created_at"),
        bindparam("expires_at", type_=DateTime(timezone=True)).label("expires_at"),
        bindparam("user_agent", type_=LoginSession.user_agent.type).label("user_agent"),
        bindparam("ip_address", type_=LoginSession.ip_address.type).label("ip_address"),
    )
    .where(
        User.id == bindparam("user_id"),
        User.is_active,
        User.hashed_password == bindparam("hashed_password"),
    )
    .with_for_update(key_share=True)
)
_role = select(User.role).where(User.id == bindparam("user_id")).scalar_subquery()
_OPEN: Final = (
    insert(LoginSession)
    .from_select([column.name for column in _opened.selected_columns], _opened)
    .returning(_role.label("role"))
)
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
    lifetime: SessionLifetime
    limit: SessionLimit
    revocation: RevocationService
    audit: AuditService
    clock: Clock
    metrics: SessionMetrics

    def log_in(self, username: str, password: str, client: Client, cookies: LoginCookies) -> Login:
        """Raises InvalidCredentials, TooManyRequests, NotReady."""
        self.tokens.check_ready()
        found = self.passwords.find(username)
        user_id = found[0].id if found else None
        with self.guesses.login(username, user_id, cookies.device, client) as guess:
            user = self.passwords.verify_login(found, password, guess)
            pair = self._open_session(user, guess, self._presented(cookies.refresh_token))
        return Login(pair, self.guesses.device_of(guess, user.id))

    def _open_session(self, user: VerifiedUser, guess: Guess, presented: RefreshClaims | None) -> TokenPair:
        now = self.clock()
        expires_at = now + min(self.lifetime.idle, self.lifetime.absolute)
        session_id, token_id = uuid4(), uuid4()
        session = {
            "session_id": session_id,
            "token_id": token_id,
            "user_id": user.id,
            "hashed_password": user.hashed_password,
            "now": now,
            "expires_at": expires_at,
        }
        role = self._open(session, guess, presented)
        if role is None:  # since the verification, disabled, deleted or given a new password
            self.passwords.record_failed_login("disabled", user.id, guess.client)
            raise InvalidCredentials
        refresh = RefreshClaims(user.id, session_id, token_id, unix_seconds(now), unix_seconds(expires_at))
        return self.tokens.issue(refresh, role)

    @retry_conflicts
    def _open(self, session: dict[str, Any], guess: Guess, presented: RefreshClaims | None) -> str | None:
        """The user's role, or None if the user has changed since the password was verified."""
        with self.db.transaction() as transaction:
            rows = transaction.execute(_OPEN, session | guess.client._asdict())
            if not rows:
                return None
            user_id, session_id = session["user_id"], str(session["session_id"])
            actor, event = UserActor(user_id, guess.client), AuditEventName.LOGIN_SUCCEEDED
            self.audit.record(transaction, event, actor, user_id, session_id=session_id)
            if presented is not None and presented.user_id == user_id:
                self._replace(transaction, actor, presented)
            self.limit.enforce(transaction, actor, session["session_id"])
            self.guesses.forgive(transaction, guess)  # last, as the address is shared by many
            transaction.after_commit(lambda: self._report(user_id, session_id))
        return str(rows[0].role)

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
