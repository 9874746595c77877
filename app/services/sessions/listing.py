"""Lists of a user's sessions."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy.orm import aliased

from app.clock import Clock
from app.database.transactions import Database, Rows
from app.models import LoginSession
from app.models.sessions import is_live

ENDED_SHOWN: Final = 20

_COLUMNS = (LoginSession.id, LoginSession.created_at, LoginSession.user_agent, LoginSession.ip_address)
_last_used_at = func.coalesce(LoginSession.rotated_at, LoginSession.created_at)
_previous = aliased(LoginSession)
_SELECT_ACTIVE: Final = (
    select(*_COLUMNS, _last_used_at.label("last_used_at"), LoginSession.expires_at)
    .where(LoginSession.user_id == bindparam("owner"), *is_live())
    .order_by(_last_used_at.desc(), LoginSession.id.desc())
    .limit(bindparam("most"))
)
_SELECT_ACTIVE_AFTER: Final = _SELECT_ACTIVE.where(
    tuple_(_last_used_at, LoginSession.id)
    < tuple_(
        select(func.coalesce(_previous.rotated_at, _previous.created_at))
        .where(_previous.id == bindparam("after"), _previous.user_id == bindparam("owner"))
        .scalar_subquery(),
        bindparam("after"),
    )
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

    def list_active(self, user_id: int, after: UUID | None = None, limit: int = 1000) -> Rows:
        """Most recently used first, from the one after the session `after`."""
        parameters = {"owner": user_id, "now": self.clock(), "most": limit}
        if after is None:
            return self.db.execute(_SELECT_ACTIVE, parameters)
        return self.db.execute(_SELECT_ACTIVE_AFTER, parameters | {"after": after})

    def list_ended(self, user_id: int) -> Rows:
        """The last `ENDED_SHOWN` revoked sessions, newest first."""
        return self.db.execute(_SELECT_ENDED, {"owner": user_id})
