"""Accounts: who somebody is."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.clock import Clock
from app.database import Database, violated_constraint
from app.errors import EmailTaken, InvalidCredentials, InvalidToken
from app.metrics import Metrics
from app.models import User
from app.security.emails import normalize_email
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


_ACCOUNT = [getattr(User, name) for name in Account._fields]
_BY_ID = select(*_ACCOUNT).where(User.id == bindparam("user_id"), User.is_active)
_BY_EMAIL = select(User.id, User.hashed_password, User.is_active).where(
    User.email == bindparam("email_address")
)
_INSERT = insert(User).returning(*_ACCOUNT)
_RENEW_HASH = (
    update(User)
    .where(User.id == bindparam("user_id"), User.hashed_password == bindparam("old_hash"))
    .values(hashed_password=bindparam("new_hash"))
    .returning(User.hashed_password)
)


@dataclass(frozen=True, slots=True)
class UserService:
    db: Database
    passwords: PasswordService
    clock: Clock
    metrics: Metrics

    def register(self, email: str, password: str) -> Account:
        """Raises EmailTaken, PasswordTooShort; `email` is a normalized one."""
        values = {
            "email": email,
            "hashed_password": self.passwords.hash_new(password),
            "created_at": self.clock(),
        }
        try:
            row = self.db.execute(_INSERT, values)[0]
        except IntegrityError as error:
            if violated_constraint(error) == "uq_users_email":
                raise EmailTaken from None
            raise
        account = Account._make(row)
        self.metrics.registrations.labels("password").inc()
        log.info("user.registered", user_id=account.id)
        return account

    def verify_password(self, username: str, password: str) -> VerifiedUser:
        """Raises InvalidCredentials, for every reason alike and after the same work."""
        try:
            email = normalize_email(username)
        except ValueError:
            email = None
        rows = self.db.execute(_BY_EMAIL, {"email_address": email}) if email else ()
        user = rows[0] if rows else None
        matches = self.passwords.verify(password, user.hashed_password if user else None)
        if user is None:
            raise self.refusal("unknown_email", None)
        if not matches:
            raise self.refusal("wrong_password", user.id)
        if not user.is_active:
            raise self.refusal("disabled", user.id)
        renewed = self.passwords.renew(password, user.hashed_password)
        if renewed is None:
            return VerifiedUser(user.id, user.hashed_password)
        parameters = {"user_id": user.id, "old_hash": user.hashed_password, "new_hash": renewed}
        if not self.db.execute(_RENEW_HASH, parameters):
            return self.verify_password(username, password)  # another login was first, or it changed
        return VerifiedUser(user.id, renewed)

    def get_active(self, user_id: int) -> Account:
        """Raises InvalidToken when the user is gone or disabled."""
        rows = self.db.execute(_BY_ID, {"user_id": user_id})
        if not rows:
            raise InvalidToken
        return Account._make(rows[0])

    def refusal(self, reason: str, user_id: int | None) -> InvalidCredentials:
        """Counted and logged with its reason, which the client never hears."""
        self.metrics.login_failures.labels(reason).inc()
        log.warning("login.failed", reason=reason, user_id=user_id)
        return InvalidCredentials()
