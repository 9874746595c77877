"""The public data of an account."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select

from app.database.prepared import Prepared
from app.database.transactions import Database
from app.errors import InvalidToken
from app.models import User
from app.models.users import Role


class Account(NamedTuple):
    """A user without the password hash."""

    id: int
    email: str
    role: str
    is_active: bool
    created_at: datetime

    @property
    def is_active_admin(self) -> bool:
        return self.is_active and self.role == Role.ADMIN


ACCOUNT_COLUMNS: Final = tuple(getattr(User, name) for name in Account._fields)
_SELECT_ACTIVE: Final = Prepared(
    select(*ACCOUNT_COLUMNS).where(User.id == bindparam("user_id"), User.is_active)
)


@dataclass(frozen=True, slots=True)
class ProfileService:
    db: Database

    def get_active(self, user_id: int) -> Account:
        """Raises InvalidToken if the user is deleted or disabled."""
        rows = self.db.execute(_SELECT_ACTIVE, {"user_id": user_id})
        if not rows:
            raise InvalidToken
        return Account._make(rows[0])
