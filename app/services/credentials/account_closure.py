"""Users delete their own accounts."""

from dataclasses import dataclass

import structlog

from app.database.transactions import Database, retry_conflicts
from app.errors import InvalidCredentials, NotFound
from app.services.accounts.deletion import DeletionService
from app.services.accounts.locking import LockedAccounts
from app.services.credentials.passwords import PasswordService, VerifiedUser
from app.services.operations.audit import UserActor

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AccountClosureService:
    db: Database
    passwords: PasswordService
    deletion: DeletionService

    def close(self, user: UserActor, password: str) -> None:
        """Deletes the account and its sessions. Raises InvalidCredentials, LastAdmin."""
        verified = self.passwords.verify_again(user, password)
        try:
            self._close(user, verified)
        except NotFound:  # a concurrent request has deleted it
            raise InvalidCredentials from None

    @retry_conflicts
    def _close(self, user: UserActor, verified: VerifiedUser) -> None:
        with self.db.transaction() as transaction:
            LockedAccounts.lock(transaction, user.user_id)  # in the order of all who lock several
            self.passwords.confirm(transaction, verified)
            self.deletion.delete(transaction, user, user.user_id)
            transaction.after_commit(
                lambda: log.info("user.deleted", user_id=user.user_id, actor_id=user.user_id)
            )
