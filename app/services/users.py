"""Accounts: who somebody is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from app.clock import Clock
from app.database import Database, retry_conflicts, violated_constraint
from app.errors import EmailTaken, InvalidCredentials, InvalidToken, LastAdmin
from app.metrics import Metrics
from app.models import User
from app.models.audit import AuditEventName
from app.models.users import Role
from app.security.emails import normalize_email
from app.services.audit import Actor, AuditService, Client
from app.services.passwords import PasswordService

log = structlog.get_logger(__name__)


class Account(NamedTuple):
    """A user without the password."""

    id: int
    email: str
    role: str
    is_active: bool
    created_at: datetime


class VerifiedUser(NamedTuple):
    """Proof that the password was right, as long as `hashed_password` is still the stored one."""

    id: int
    hashed_password: str


ACCOUNT = [getattr(User, name) for name in Account._fields]
_BY_ID = select(*ACCOUNT).where(User.id == bindparam("user_id"), User.is_active)
_BY_EMAIL = select(User.id, User.hashed_password, User.is_active).where(
    User.email == bindparam("email_address")
)
_HASH_BY_ID = select(User.id, User.hashed_password, User.is_active).where(User.id == bindparam("user_id"))
_INSERT = insert(User).returning(*ACCOUNT)
_DELETE = delete(User).where(User.id == bindparam("user_id"))
_RENEW_HASH = (
    update(User)
    .where(User.id == bindparam("user_id"), User.hashed_password == bindparam("old_hash"))
    .values(hashed_password=bindparam("new_hash"))
    .returning(User.hashed_password)
)


# In the order of their ids, so that two who lock several wait for each other rather than deadlock.
_LOCK = (
    select(*ACCOUNT)
    .where(or_(User.id == bindparam("user_id"), and_(User.role == Role.ADMIN, User.is_active)))
    .order_by(User.id)
    .with_for_update(key_share=True)
)


class Locked(NamedTuple):
    """A user and all active admins, locked; `target` is None where there is no such user."""

    target: Account | None
    admins: frozenset[int]

    def check_still_one_without(self, user_id: int) -> None:
        """Raises LastAdmin where no active admin would be left."""
        if self.admins == {user_id}:
            raise LastAdmin


def lock_with_admins(connection: Connection, user_id: int | None) -> Locked:
    accounts = [Account._make(row) for row in connection.execute(_LOCK, {"user_id": user_id})]
    target = next((account for account in accounts if account.id == user_id), None)
    admins = [account for account in accounts if account.role == Role.ADMIN and account.is_active]
    return Locked(target, frozenset(account.id for account in admins))


@dataclass(frozen=True, slots=True)
class UserService:
    db: Database
    passwords: PasswordService
    audit: AuditService
    clock: Clock
    metrics: Metrics

    def register(self, email: str, password: str, client: Client) -> Account:
        """Raises EmailTaken, PasswordTooShort; `email` is a normalized one."""
        hashed_password = self.passwords.hash_new(password)
        account = self._open(email, hashed_password, client)
        self.metrics.registrations.labels("password").inc()
        log.info("user.registered", user_id=account.id)
        return account

    @retry_conflicts
    def _open(self, email: str, hashed_password: str, client: Client) -> Account:
        with self.db.transaction() as connection:
            account = self.insert(connection, email, hashed_password, Role.USER)
            actor = Actor(account.id, client)
            self.audit.record(connection, AuditEventName.USER_REGISTERED, actor, account.id)
        return account

    def insert(self, connection: Connection, email: str, hashed_password: str, role: Role) -> Account:
        """Raises EmailTaken."""
        values = {
            "email": email,
            "hashed_password": hashed_password,
            "role": role,
            "created_at": self.clock(),
        }
        try:
            return Account._make(connection.execute(_INSERT, values).one())
        except IntegrityError as error:
            if violated_constraint(error) == "uq_users_email":
                raise EmailTaken from None
            raise

    def delete(self, connection: Connection, actor: Actor, user_id: int) -> None:
        """With all sessions; the caller has locked the user and the admins."""
        connection.execute(_DELETE, {"user_id": user_id})
        self.audit.record(connection, AuditEventName.USER_DELETED, actor, user_id)

    def verify_password(self, username: str, password: str, client: Client) -> VerifiedUser:
        """Raises InvalidCredentials, for every reason alike and after the same work."""
        try:
            email = normalize_email(username)
        except ValueError:
            email = None
        rows = self.db.execute(_BY_EMAIL, {"email_address": email}) if email else ()
        user = self._verified(rows, password, client)
        renewed = self.passwords.renew(password, user.hashed_password)
        if renewed is None:
            return VerifiedUser(user.id, user.hashed_password)
        parameters = {"user_id": user.id, "old_hash": user.hashed_password, "new_hash": renewed}
        if not self.db.execute(_RENEW_HASH, parameters):
            return self.verify_password(username, password, client)  # another login was first, or it changed
        return VerifiedUser(user.id, renewed)

    def verify_password_of(self, user_id: int, password: str, client: Client) -> VerifiedUser:
        """Of somebody who is signed in; counted like a login when it fails. Raises InvalidCredentials."""
        rows = self.db.execute(_HASH_BY_ID, {"user_id": user_id})
        user = self._verified(rows, password, client)
        return VerifiedUser(user.id, user.hashed_password)

    def _verified(self, rows: Sequence[Row[Any]], password: str, client: Client) -> Row[Any]:
        user = rows[0] if rows else None
        matches = self.passwords.verify(password, user.hashed_password if user else None)
        if user is None:
            raise self.refusal("unknown_email", None, client)
        if not matches:
            raise self.refusal("wrong_password", user.id, client)
        if not user.is_active:
            raise self.refusal("disabled", user.id, client)
        return user

    def get_active(self, user_id: int) -> Account:
        """Raises InvalidToken when the user is gone or disabled."""
        rows = self.db.execute(_BY_ID, {"user_id": user_id})
        if not rows:
            raise InvalidToken
        return Account._make(rows[0])

    def refusal(self, reason: str, user_id: int | None, client: Client) -> InvalidCredentials:
        """Counted, logged and recorded with its reason, which the client never hears."""
        actor = Actor(None, client)
        self.audit.record(self.db, AuditEventName.LOGIN_FAILED, actor, user_id, reason=reason)
        self.metrics.login_failures.labels(reason).inc()
        log.warning("login.failed", reason=reason, user_id=user_id)
        return InvalidCredentials()
