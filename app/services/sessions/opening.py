"""Opens a session for somebody who has just proved the password."""

from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import uuid4

from sqlalchemy import DateTime, bindparam, insert, select

from app.clock import Clock
from app.database.transactions import Transaction
from app.models import LoginSession, User
from app.security.tokens import RefreshClaims
from app.services.credentials.passwords import VerifiedUser
from app.services.operations.audit import Client
from app.services.sessions.tokens import Holder, SessionLifetime, unix_seconds

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
_new = (
    insert(LoginSession)
    .from_select([column.name for column in _opened.selected_columns], _opened)
    .returning(LoginSession.user_id)
    .cte("new")
)
_OPEN: Final = select(User.role, User.email, User.email_verified_at.is_not(None)).join(
    _new, _new.c.user_id == User.id
)


class OpenedSession(NamedTuple):
    """What its first pair of tokens is made of."""

    refresh: RefreshClaims
    holder: Holder


@dataclass(frozen=True, slots=True)
class SessionOpener:
    lifetime: SessionLifetime
    clock: Clock

    def open(self, transaction: Transaction, user: VerifiedUser, client: Client) -> OpenedSession | None:
        """None if the user has been disabled, deleted or given another password. Locks the user's row."""
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
            "user_agent": client.user_agent,
            "ip_address": client.ip_address,
        }
        rows = transaction.execute(_OPEN, session)
        if not rows:
            return None
        refresh = RefreshClaims(user.id, session_id, token_id, unix_seconds(now), unix_seconds(expires_at))
        return OpenedSession(refresh, Holder._make(rows[0]))
