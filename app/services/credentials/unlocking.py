"""Operators let somebody try again."""

from dataclasses import dataclass

from app.database.transactions import Database, retry_conflicts
from app.models.audit import AuditEventName
from app.services.accounts.admin_actions import AdminActions
from app.services.accounts.profile import Account
from app.services.operations.audit import Actor, AuditService
from app.services.protection.guesses import GuessService


@dataclass(frozen=True, slots=True)
class UnlockService:
    db: Database
    guesses: GuessService
    audit: AuditService
    actions: AdminActions

    @retry_conflicts
    def unlock(self, actor: Actor, account: Account) -> None:
        """Forget the failed attempts at an account; its sessions and its password stay as they are."""
        with self.db.transaction() as transaction:
            self.guesses.forget(transaction, [account.email], account.id)
            self.audit.record(transaction, AuditEventName.USER_UNLOCKED, actor, account.id)
            self.actions.report(transaction, "user_unlocked", actor, account.id)
