"""Lists of a user's sessions."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, column, func, select

from app.clock import Clock
from app.database.transactions import Database, Rows
from app.models import LoginSession
from app.models.sessions import is_live

ENDED_SHOWN: Final = 20

_COLUMNS = (LoginSession.id, LoginSession.created_at, LoginSession.user_agent, LoginSession.ip_address)
_SELECT_ACTIVE: Final = (
    select(
        *_COLUMNS,
        func.coalesce(LoginSession.rotated_at, LoginSession.created_at).label("last_used_at"),
        LoginSession.expires_at,
    )
    .where(LoginSession.user_id == bindparam("owner"), *is_live())
    .order_by(column("last_used_at").desc(), LoginSession.id)
)
_SELECT_ENDED: Final = (
    select(
        *_COLUMNS,
        LoginSession.revoked_at.label("ended_at"),
        LoginSession.revoked_reason.label("reason"),
    )
    .where(LoginSession.user_id == bindparam("owner"), LoginSession.revoked_at.is_not(None))
    .order_by(LoginSession.revoked_at.desc(), LoginSession.id)
    .limit(ENDED_SHOWN)
)


@dataclass(frozen=True, slots=True)
class SessionService:
    db: Database
    clock: Clock

    def list_active(self, user_id: int) -> Rows:
        """Most recently used first."""
        return self.db.execute(_SELECT_ACTIVE, {"owner": user_id, "now": self.clock()})

    def list_ended(self, user_id: int) -> Rows:
        """The last `ENDED_SHOWN` revoked sessions, newest first."""
        return self.db.execute(_SELECT_ENDED, {"owner": user_id})
