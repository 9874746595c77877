"""Login sessions: opened by a login, ended for a reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import structlog
from sqlalchemy import (
    Connection,
    DateTime,
    Row,
    Uuid,
    bindparam,
    case,
    column,
    func,
    insert,
    or_,
    select,
    update,
)

from app.clock import Clock
from app.database import Database, retry_conflicts
from app.errors import NotFound
from app.metrics import Metrics
from app.models import LoginSession, User
from app.models.audit import AuditEventName
from app.models.sessions import EndReason
from app.security.tokens import RefreshClaims
from app.services.audit import Actor, AuditService, Client
from app.services.tokens import TokenIssuer, TokenPair, unix_seconds
from app.services.users import UserService

log = structlog.get_logger(__name__)


ENDED_SHOWN: Final = 20
_IDS_RECORDED: Final = 50

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
_only, _spared, _named = (bindparam(name, type_=Uuid) for name in ("only", "spared", "named"))
_END = (
    update(LoginSession)
    .where(
        LoginSession.user_id == bindparam("owner"),
        *ALIVE,
        or_(_only.is_(None), LoginSession.id == _only),
        or_(_spared.is_(None), LoginSession.id != _spared),
    )
    .values(
        revoked_at=_now,
        revoked_reason=case(
            (LoginSession.id == _named, bindparam("named_reason")), else_=bindparam("reason")
        ),
    )
    .returning(LoginSession.id, LoginSession.revoked_reason)
)
_PLACE = (LoginSession.id, LoginSession.created_at, LoginSession.user_agent, LoginSession.ip_address)
_LIVE = (
    select(
        *_PLACE,
        func.coalesce(LoginSession.rotated_at, LoginSession.created_at).label("last_used_at"),
        LoginSession.expires_at,
    )
    .where(LoginSession.user_id == bindparam("owner"), *ALIVE)
    .order_by(column("last_used_at").desc(), LoginSession.id)
)
_ENDED = (
    select(
        *_PLACE,
        LoginSession.revoked_at.label("ended_at"),
        LoginSession.revoked_reason.label("reason"),
    )
    .where(LoginSession.user_id == bindparam("owner"), LoginSession.revoked_at.is_not(None))
    .order_by(LoginSession.revoked_at.desc(), LoginSession.id)
    .limit(ENDED_SHOWN)
)


class Ending(NamedTuple):
    """Which sessions of a user end, and why: all that live, or `only` one, or all but the `spared` one.

    `this` is the one that its user logs out of, whatever the reason of the others.
    """

    actor: Actor
    user_id: int
    reason: EndReason
    only: UUID | None = None
    spared: UUID | None = None
    this: UUID | None = None


@dataclass(frozen=True, slots=True)
class SessionService:
    db: Database
    users: UserService
    issuer: TokenIssuer
    audit: AuditService
    clock: Clock
    metrics: Metrics

    def log_in(self, username: str, password: str, client: Client) -> TokenPair:
        """Raises InvalidCredentials."""
        user = self.users.verify_password(username, password, client)
        now, session_id, token_id = self.clock(), uuid4(), uuid4()
        expires_at = now + min(self.issuer.lifetimes.idle, self.issuer.lifetimes.session)
        opened = self._open(
            {
                "session_id": session_id,
                "user_id": user.id,
                "hashed_password": user.hashed_password,
                "token_id": token_id,
                "now": now,
                "expires_at": expires_at,
            },
            client,
        )
        if opened is None:  # disabled, deleted, or given another password since it was verified
            raise self.users.refusal("disabled", user.id, client)
        self.metrics.logins.labels("password").inc()
        log.info("login.succeeded", user_id=user.id, session_id=str(session_id))
        refresh = RefreshClaims(user.id, session_id, token_id, unix_seconds(now), unix_seconds(expires_at))
        return self.issuer.issue(refresh, opened.role, now)

    @retry_conflicts
    def _open(self, session: dict[str, Any], client: Client) -> Row[Any] | None:
        with self.db.transaction() as connection:
            row = connection.execute(_OPEN, session | client._asdict()).one_or_none()
            if row is not None:
                actor, session_id = Actor(session["user_id"], client), str(session["session_id"])
                event = AuditEventName.LOGIN_SUCCEEDED
                self.audit.record(connection, event, actor, actor.user_id, session_id=session_id)
        return row

    def list_live(self, user_id: int) -> Sequence[Row[Any]]:
        return self.db.execute(_LIVE, {"owner": user_id, "now": self.clock()})

    def list_ended(self, user_id: int) -> Sequence[Row[Any]]:
        """The last ones that were ended before their time, newest first."""
        return self.db.execute(_ENDED, {"owner": user_id})

    def log_out(self, user_id: int, session_id: UUID | None, client: Client, *, everywhere: bool) -> None:
        """End this session, or every one of the user: this one for a logout, the others along with it."""
        actor = Actor(user_id, client)
        if everywhere:
            self.end_some(Ending(actor, user_id, EndReason.LOGOUT_ALL, this=session_id))
        elif session_id is not None:
            self.end_some(Ending(actor, user_id, EndReason.LOGOUT, only=session_id))

    def log_out_of_others(self, user_id: int, spared: UUID | None, client: Client) -> None:
        self.end_some(Ending(Actor(user_id, client), user_id, EndReason.LOGOUT_ALL, spared=spared))

    def log_out_of(self, user_id: int, session_id: UUID, client: Client) -> None:
        """End one session. Raises NotFound where the user has no such live session."""
        ending = Ending(Actor(user_id, client), user_id, EndReason.LOGOUT, only=session_id)
        if not self.end_some(ending):
            raise NotFound

    @retry_conflicts
    def end_some(self, ending: Ending) -> int:
        """End sessions in a transaction of their own; returns how many."""
        with self.db.transaction() as connection:
            ended = self.end(connection, ending)
        self.announce_end(ending.user_id, ended)
        return len(ended)

    def end(self, connection: Connection, ending: Ending) -> Sequence[Row[Any]]:
        """End them within the caller's transaction; `announce_end` them after its commit."""
        parameters = {
            "owner": ending.user_id,
            "now": self.clock(),
            "reason": ending.reason,
            "only": ending.only,
            "spared": ending.spared,
            "named": ending.this,
            "named_reason": EndReason.LOGOUT,
        }
        ended: list[Row[Any]] = [*connection.execute(_END, parameters)]
        if ended:
            ids = [str(session.id) for session in ended[:_IDS_RECORDED]]
            details = {"reason": ending.reason, "number": len(ended), "session_ids": ids}
            event = AuditEventName.SESSION_ENDED
            self.audit.record(connection, event, ending.actor, ending.user_id, **details)
        return ended

    def announce_end(self, user_id: int, sessions: Sequence[Row[Any]]) -> None:
        for session in sessions:
            reason = session.revoked_reason
            self.metrics.sessions_ended.labels(reason).inc()
            log.info("session.ended", user_id=user_id, session_id=str(session.id), reason=reason)

    @retry_conflicts
    def end_reused(self, session_id: UUID, user_id: int, client: Client) -> None:
        """End a session whose refresh token somebody has a copy of."""
        log.warning("session.reuse_detected", user_id=user_id, session_id=str(session_id))
        nobody = Actor(None, client)
        with self.db.transaction() as connection:
            event = AuditEventName.REUSE_DETECTED
            self.audit.record(connection, event, nobody, user_id, session_id=str(session_id))
            ending = Ending(nobody, user_id, EndReason.REUSE_DETECTED, only=session_id)
            ended = self.end(connection, ending)
        self.announce_end(user_id, ended)
