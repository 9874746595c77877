"""Deletion of accounts."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete

from app.database.transactions import Transaction
from app.models import User
from app.models.audit import AuditEventName
from app.services.accounts.locking import LockedAccounts
from app.services.delivery.account_mails import AccountMails, Recipient, client_told
from app.services.delivery.revocations import RevocationFeed
from app.services.operations.audit import Actor, AuditService

_DELETE: Final = delete(User).where(User.id == bindparam("user_id"))


@dataclass(frozen=True, slots=True)
class DeletionService:
    feed: RevocationFeed
    mails: AccountMails
    audit: AuditService

    def delete(self, transaction: Transaction, actor: Actor, user_id: int) -> None:
        """Also deletes the user's sessions. Raises NotFound, LastAdmin, Forbidden."""
        locked = LockedAccounts.lock(transaction, user_id)
        account = locked.require_target()
        locked.ensure_another_admin(user_id)
        if actor.user_id != user_id:
            locked.ensure_still_admin(actor)
        client = client_told(actor, user_id)
        for email in {account.email, *self.mails.tokens.ways_back_of(transaction, user_id)}:
            self.mails.notify(transaction, "account_deleted", Recipient(user_id, email), client)
        transaction.execute(_DELETE, {"user_id": user_id})
        self.audit.record(transaction, AuditEventName.USER_DELETED, actor, user_id)
        self.feed.publish_user(transaction, user_id, "user_deleted")
