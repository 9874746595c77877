"""The accounts of BOOTSTRAP_USERS: each is created once, when it is missing, and never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import bindparam, select

from app.database.transactions import Database, retry_conflicts
from app.errors import EmailTaken, PasswordRefused
from app.models import User
from app.models.audit import AuditEventName
from app.models.users import Role
from app.security.emails import normalize_email
from app.services.accounts.kept_ids import let_nobody_register, move_sequence_past
from app.services.accounts.registration import NewAccount, RegistrationService
from app.services.operations.audit import SERVICE, AuditService
from app.services.protection.password_policy import NewPassword, PasswordPolicy
from app.setting_bootstrap import BootstrapUser

log = structlog.get_logger(__name__)

_SELECT_BY_EMAIL: Final = select(User.id).where(User.email == bindparam("email"))
_SELECT_BY_ID: Final = select(User.id).where(User.id == bindparam("user_id"))


@dataclass(frozen=True, slots=True)
class BootstrapService:
    db: Database
    registration: RegistrationService
    policy: PasswordPolicy
    audit: AuditService
    users: Sequence[BootstrapUser]

    def run(self) -> None:
        """Any number of workers and replicas may do so at once. Raises DatabaseUnavailable."""
        for user in self.users:
            email = normalize_email(user.email)
            if self.db.execute(_SELECT_BY_EMAIL, {"email": email}):
                continue
            hashed = self.registration.hash_unchecked(user.text)
            try:
                user_id = self._create(user, email, hashed)
            except EmailTaken:  # another one was faster
                continue
            if user_id is None:
                log.error("bootstrap.id_taken", user_id=user.id)
            elif self._is_weak(user.text, email):
                log.warning("bootstrap.weak_password", user_id=user_id)

    @retry_conflicts
    def _create(self, user: BootstrapUser, email: str, hashed_password: str) -> int | None:
        """None if the id is somebody else's. Raises EmailTaken."""
        role = Role(user.role)
        with self.db.transaction() as transaction:
            if user.id is not None:
                let_nobody_register(transaction)
                if transaction.execute(_SELECT_BY_EMAIL, {"email": email}):
                    raise EmailTaken
                if transaction.execute(_SELECT_BY_ID, {"user_id": user.id}):
                    return None
            new = NewAccount(email, hashed_password, role, is_verified=True, id=user.id)
            account = self.registration.insert(transaction, new)
            if user.id is not None:
                move_sequence_past(transaction, user.id)
            self.audit.record(transaction, AuditEventName.USER_CREATED, SERVICE, account.id, role=role)
            transaction.after_commit(
                lambda: log.info("bootstrap.user_created", user_id=account.id, role=account.role)
            )
        return account.id

    def _is_weak(self, password: str, email: str) -> bool:
        try:
            self.policy.check(NewPassword(password, email))
        except PasswordRefused:
            return True
        return False
