"""Creation of accounts."""

from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from app.clock import Clock
from app.database.failures import violated_constraint
from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import EmailTaken
from app.models import User
from app.models.audit import AuditEventName
from app.models.users import Role
from app.services.accounts.profile import ACCOUNT_COLUMNS, Account
from app.services.operations.audit import AuditService, Client, UserActor
from app.services.protection.hashing import HashingPool
from app.services.protection.password_policy import NewPassword, PasswordPolicy
from app.telemetry.metrics import AccountMetrics

log = structlog.get_logger(__name__)

_INSERT: Final = insert(User).returning(*ACCOUNT_COLUMNS)


@dataclass(frozen=True, slots=True)
class RegistrationService:
    db: Database
    policy: PasswordPolicy
    hashing: HashingPool
    audit: AuditService
    clock: Clock
    metrics: AccountMetrics

    def register(self, email: str, password: str, client: Client) -> Account:
        """`email` must be normalized. Raises EmailTaken, PasswordTooShort, PasswordTooCommon."""
        return self._register(email, self.hash_new(NewPassword(password, email)), client)

    def hash_new(self, password: NewPassword) -> str:
        """Raises PasswordTooShort, PasswordTooCommon before it enters the hashing queue."""
        self.policy.check(password)
        return self.hashing.hash(password.text)

    @retry_conflicts
    def _register(self, email: str, hashed_password: str, client: Client) -> Account:
        with self.db.transaction() as transaction:
            account = self.insert(transaction, email, hashed_password, Role.USER)
            actor = UserActor(account.id, client)
            self.audit.record(transaction, AuditEventName.USER_REGISTERED, actor, account.id)
            transaction.after_commit(lambda: self._report(account.id))
        return account

    def insert(self, transaction: Transaction, email: str, hashed_password: str, role: Role) -> Account:
        """Raises EmailTaken."""
        values = {
            "email": email,
            "hashed_password": hashed_password,
            "role": role,
            "created_at": self.clock(),
        }
        try:
            return Account._make(transaction.execute(_INSERT, values)[0])
        except IntegrityError as error:
            if violated_constraint(error) == "uq_users_email":
                raise EmailTaken from None
            raise

    def _report(self, user_id: int) -> None:
        self.metrics.registrations.labels("password").inc()
        log.info("user.registered", user_id=user_id)
