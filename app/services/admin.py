"""What administrators do with the accounts of others, in the service and at the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from unicodedata import normalize
from uuid import UUID

import structlog
from sqlalchemy import Select, bindparam, func, select, update

from app.database import Database, retry_conflicts
from app.errors import Forbidden, NotFound
from app.metrics import Metrics
from app.models import User
from app.models.audit import AuditEventName
from app.models.sessions import EndReason
from app.models.users import Role
from app.services.account import AccountService
from app.services.audit import Actor, AuditService
from app.services.sessions import Ending, SessionService
from app.services.users import ACCOUNT, Account, Locked, UserService, lock_with_admins

log = structlog.get_logger(__name__)

_BY_ID = select(*ACCOUNT).where(User.id == bindparam("user_id"))
_BY_EMAIL = select(*ACCOUNT).where(User.email == bindparam("email"))
_CHANGE = (
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(role=bindparam("new_role"), is_active=bindparam("new_is_active"))
    .returning(*ACCOUNT)
)


class UserFilter(NamedTuple):
    """`q` is how the email begins."""

    q: str | None = None
    role: Role | None = None
    is_active: bool | None = None

    def apply(self, statement: Select[Any]) -> Select[Any]:
        if self.q:
            statement = statement.where(
                User.email.startswith(normalize("NFC", self.q.strip().lower()), autoescape=True)
            )
        if self.role is not None:
            statement = statement.where(User.role == self.role)
        if self.is_active is not None:
            statement = statement.where(User.is_active if self.is_active else ~User.is_active)
        return statement


@dataclass(frozen=True, slots=True)
class AdminService:
    """Raises Forbidden where the actor is a user who is no active admin any more."""

    db: Database
    users: UserService
    account: AccountService
    sessions: SessionService
    audit: AuditService
    metrics: Metrics

    def list(self, wanted: UserFilter, *, after: int, limit: int) -> Sequence[Account]:
        """In the order of their ids, from the one after `after`."""
        statement = select(*ACCOUNT).where(User.id > after).order_by(User.id).limit(limit)
        return [Account._make(row) for row in self.db.execute(wanted.apply(statement))]

    def count(self, wanted: UserFilter) -> int:
        """Takes a time in proportion to the answer."""
        statement = wanted.apply(select(func.count()).select_from(User))
        return int(self.db.execute(statement)[0][0])

    def get(self, user_id: int) -> Account:
        """Raises NotFound."""
        return self._one(self.db.execute(_BY_ID, {"user_id": user_id}))

    def find(self, email: str) -> Account:
        """By a normalized email. Raises NotFound."""
        return self._one(self.db.execute(_BY_EMAIL, {"email": email}))

    def _one(self, rows: Sequence[Any]) -> Account:
        if not rows:
            raise NotFound
        return Account._make(rows[0])

    def create(self, actor: Actor, email: str, password: str, role: Role) -> Account:
        """Raises EmailTaken, PasswordTooShort."""
        account = self._create(actor, email, self.users.passwords.hash_new(password), role)
        self._announce("user_created", actor, account.id, role=role)
        return account

    @retry_conflicts
    def _create(self, actor: Actor, email: str, hashed_password: str, role: Role) -> Account:
        with self.db.transaction() as connection:
            self._check(actor, lock_with_admins(connection, actor.user_id))
            account = self.users.insert(connection, email, hashed_password, role)
            self.audit.record(connection, AuditEventName.USER_CREATED, actor, account.id, role=role)
        return account

    @retry_conflicts
    def change(
        self, actor: Actor, user_id: int, *, role: Role | None = None, is_active: bool | None = None
    ) -> Account:
        """None leaves it as it is. A disabled user's sessions end. Raises NotFound, LastAdmin."""
        with self.db.transaction() as connection:
            locked = lock_with_admins(connection, user_id)
            if locked.target is None:
                raise NotFound
            before = locked.target
            new_role = before.role if role is None else role
            is_active = before.is_active if is_active is None else is_active
            if new_role != Role.ADMIN or not is_active:
                locked.check_still_one_without(user_id)
            self._check(actor, locked)
            parameters = {"user_id": user_id, "new_role": new_role, "new_is_active": is_active}
            account = Account._make(connection.execute(_CHANGE, parameters).one())
            done: list[tuple[str, AuditEventName, dict[str, str]]] = []
            if new_role != before.role:
                details = {"from": before.role, "to": str(new_role)}
                done.append(("role_changed", AuditEventName.USER_ROLE_CHANGED, details))
            if is_active and not before.is_active:
                done.append(("user_enabled", AuditEventName.USER_ENABLED, {}))
            if before.is_active and not is_active:
                done.append(("user_disabled", AuditEventName.USER_DISABLED, {}))
            for _, event, details in done:
                self.audit.record(connection, event, actor, user_id, **details)
            ended: Sequence[Any] = ()
            if not is_active:
                ended = self.sessions.end(connection, Ending(actor, user_id, EndReason.USER_DISABLED))
        for action, _, details in done:
            self._announce(action, actor, user_id, **details)
        self.sessions.announce_end(user_id, ended)
        return account

    def set_password(self, actor: Actor, user_id: int, password: str) -> None:
        """All sessions of the user end. Raises NotFound, PasswordTooShort."""
        new_hash = self.users.passwords.hash_new(password)
        if not self.account.replace_hash(actor, user_id, new_hash, verified=None, spared=None):
            raise NotFound
        self._announce("password_set", actor, user_id)

    @retry_conflicts
    def delete(self, actor: Actor, user_id: int) -> None:
        """With all sessions. Raises NotFound, LastAdmin."""
        with self.db.transaction() as connection:
            locked = lock_with_admins(connection, user_id)
            if locked.target is None:
                raise NotFound
            locked.check_still_one_without(user_id)
            self._check(actor, locked)
            self.users.delete(connection, actor, user_id)
        self._announce("user_deleted", actor, user_id)

    def list_sessions(self, user_id: int) -> Sequence[Any]:
        """Raises NotFound."""
        self.get(user_id)
        return self.sessions.list_live(user_id)

    def end_sessions(self, actor: Actor, user_id: int, only: UUID | None = None) -> int:
        """All of them, or `only` one; returns how many. Raises NotFound."""
        self.get(user_id)
        number = self.sessions.end_some(Ending(actor, user_id, EndReason.ADMIN, only=only))
        if only is not None and not number:
            raise NotFound
        self._announce("sessions_ended", actor, user_id, number=number)
        return number

    def _check(self, actor: Actor, locked: Locked) -> None:
        """The actor may have lost the role since the request began."""
        if actor.user_id is not None and actor.user_id not in locked.admins:
            raise Forbidden

    def _announce(self, action: str, actor: Actor, user_id: int, **details: Any) -> None:
        self.metrics.admin_actions.labels(action).inc()
        log.info("admin.action", action=action, actor_id=actor.user_id, user_id=user_id, **details)
