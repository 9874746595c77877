"""Locks accounts before changes, so that at least one active admin always remains."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import and_, bindparam, or_, select

from app.database.transactions import Transaction
from app.errors import Forbidden, LastAdmin, NotFound
from app.models import User
from app.models.users import Role
from app.services.accounts.profile import ACCOUNT_COLUMNS, Account
from app.services.operations.audit import Actor

# Ordered by id, so that concurrent transactions wait for each other instead of deadlocking.
_LOCK: Final = (
    select(*ACCOUNT_COLUMNS)
    .where(or_(User.id == bindparam("user_id"), and_(User.role == Role.ADMIN, User.is_active)))
    .order_by(User.id)
    .with_for_update(key_share=True)
)


@dataclass(frozen=True, slots=True)
class LockedAccounts:
    """The rows of one user and of all active admins, locked until the transaction ends."""

    target: Account | None
    admin_ids: frozenset[int]

    @classmethod
    def lock(cls, transaction: Transaction, user_id: int | None) -> "LockedAccounts":
        accounts = [Account._make(row) for row in transaction.execute(_LOCK, {"user_id": user_id})]
        target = next((account for account in accounts if account.id == user_id), None)
        return cls(target, frozenset(account.id for account in accounts if account.is_active_admin))

    def require_target(self) -> Account:
        """Raises NotFound."""
        if self.target is None:
            raise NotFound
        return self.target

    def ensure_another_admin(self, user_id: int) -> None:
        """Raises LastAdmin if this user is the only active admin."""
        if self.admin_ids == {user_id}:
            raise LastAdmin

    def ensure_still_admin(self, actor: Actor) -> None:
        """Raises Forbidden if a user is no longer an active admin; operators are always allowed."""
        if actor.user_id is not None and actor.user_id not in self.admin_ids:
            raise Forbidden
