"""The public data of an account."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, exists, or_, select

from app.clock import Clock
from app.database.prepared import Prepared
from app.database.transactions import Database
from app.errors import InvalidToken, TokenRevoked
from app.models import LoginSession, User
from app.models.sessions import is_live
from app.models.users import Role


class Account(NamedTuple):
    """A user without the password hash."""

    id: int
    email: str
    role: str
    is_active: bool
    created_at: datetime
    email_verified: bool

    @property
    def is_active_admin(self) -> bool:
        return self.is_active and self.role == Role.ADMIN


ACCOUNT_COLUMNS: Final[tuple[Any, ...]] = (
    *(User.id, User.email, User.role, User.is_active, User.created_at),
    User.email_verified_at.is_not(None).label("email_verified"),
)
_session_id = bindparam("session_id", type_=LoginSession.id.type)
_SELECT_ACTIVE: Final = Prepared(
    select(
        *ACCOUNT_COLUMNS,
        or_(
            _session_id.is_(None),
            exists().where(LoginSession.id == _session_id, LoginSession.user_id == User.id, *is_live()),
        ).label("is_live"),
    ).where(User.id == bindparam("user_id"), User.is_active)
)


@dataclass(frozen=True, slots=True)
class ProfileService:
    db: Database
    clock: Clock

    def authenticate(self, user_id: int, session_id: UUID | None) -> Account:
        """The owner of an access token. `session_id` is None in a token that a sibling has made.

        Raises InvalidToken if the user is deleted or disabled, TokenRevoked if the session has ended.
        """
        parameters = {"user_id": user_id, "session_id": session_id, "now": self.clock()}
        rows = self.db.execute(_SELECT_ACTIVE, parameters)
        if not rows:
            raise InvalidToken
        if not rows[0].is_live:
            raise TokenRevoked
        return Account._make(rows[0][:-1])
