"""Login sessions: opened by a login, ended for a reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import structlog
from sqlalchemy import DateTime, Row, bindparam, case, insert, select, update

from app.clock import Clock
from app.database import Database
from app.metrics import Metrics
from app.models import LoginSession, User
from app.models.sessions import EndReason
from app.security.tokens import RefreshClaims
from app.services.tokens import TokenIssuer, TokenPair, unix_seconds
from app.services.users import UserService

log = structlog.get_logger(__name__)


class Client(NamedTuple):
    """Where a request came from, as far as it says."""

    ip_address: str | None
    user_agent: str | None


_now = bindparam("now", type_=DateTime(timezone=True))
ALIVE = (LoginSession.revoked_at.is_(None), LoginSession.expires_at > _now)

# The lock on the user's row makes a login and the disabling of its user wait for each other.
_verified = (
    select(
        bindparam("session_id").label("id"),
        User.id.label("user_id"),
        bindparam("token_id").label("token_id"),
        _now.label("created_at"),
        bindparam("expires_at", type_=DateTime(timezone=True)).label("expires_at"),
        bindparam("user_agent", type_=LoginSession.user_agent.type).label("user_agent"),
        bindparam("ip_address", type_=LoginSession.ip_address.type).label("ip_address"),
    )
    .where(
        User.id == bindparam("user_id"),
        User.is_active,
        User.hashed_password == bindparam("hashed_password"),
    )
    .with_for_update(read=True)
)
_role = select(User.role).where(User.id == bindparam("user_id")).scalar_subquery()
_OPEN = (
    insert(LoginSession)
    .from_select([column.name for column in _verified.selected_columns], _verified)
    .returning(_role.label("role"))
)
_END_REUSED = (
    update(LoginSession)
    .where(LoginSession.id == bindparam("session_id"), *ALIVE)
    .values(revoked_at=_now, revoked_reason=EndReason.REUSE_DETECTED)
    .returning(LoginSession.id, LoginSession.revoked_reason)
)
_END_ALL = (
    update(LoginSession)
    .where(LoginSession.user_id == bindparam("owner"), *ALIVE)
    .values(
        revoked_at=_now,
        revoked_reason=case(
            (LoginSession.id == bindparam("session_id"), EndReason.LOGOUT),
            else_=EndReason.LOGOUT_ALL,
        ),
    )
    .returning(LoginSession.id, LoginSession.revoked_reason)
)


@dataclass(frozen=True, slots=True)
class SessionService:
    db: Database
    users: UserService
    issuer: TokenIssuer
    clock: Clock
    metrics: Metrics

    def log_in(self, username: str, password: str, client: Client) -> TokenPair:
        """Raises InvalidCredentials."""
        user = self.users.verify_password(username, password)
        now, session_id, token_id = self.clock(), uuid4(), uuid4()
        expires_at = now + min(self.issuer.lifetimes.idle, self.issuer.lifetimes.session)
        rows = self.db.execute(
            _OPEN,
            {
                "session_id": session_id,
                "user_id": user.id,
                "hashed_password": user.hashed_password,
                "token_id": token_id,
                "now": now,
                "expires_at": expires_at,
                **client._asdict(),
            },
        )
        if not rows:  # disabled, deleted, or given another password since it was verified
            raise self.users.refusal("disabled", user.id)
        self.metrics.logins.labels("password").inc()
        log.info("login.succeeded", user_id=user.id, session_id=str(session_id))
        refresh = RefreshClaims(user.id, session_id, token_id, unix_seconds(now), unix_seconds(expires_at))
        return self.issuer.issue(refresh, rows[0].role, now)

    def log_out(self, user_id: int, session_id: UUID | None) -> None:
        """End every session of the user."""
        parameters = {"owner": user_id, "session_id": session_id, "now": self.clock()}
        self._ended(user_id, self.db.execute(_END_ALL, parameters))

    def end_reused(self, session_id: UUID, user_id: int) -> None:
        """End a session whose refresh token somebody has a copy of."""
        log.warning("session.reuse_detected", user_id=user_id, session_id=str(session_id))
        parameters = {"session_id": session_id, "now": self.clock()}
        self._ended(user_id, self.db.execute(_END_REUSED, parameters))

    def _ended(self, user_id: int, sessions: Sequence[Row[Any]]) -> None:
        for session in sessions:
            reason = session.revoked_reason
            self.metrics.sessions_ended.labels(reason).inc()
            log.info("session.ended", user_id=user_id, session_id=str(session.id), reason=reason)
