"""Password changes, which revoke sessions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from sqlalchemy import and_, bindparam, or_, update

from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import InvalidCredentials, NotFound
from app.models import User
from app.models.audit import AuditEventName
from app.models.sessions import RevocationReason
from app.services.accounts.admin_actions import AdminActions
from app.services.accounts.session_revoker import SessionRevoker
from app.services.credentials.passwords import PasswordService, VerifiedUser
from app.services.delivery.account_mails import AccountMails, Recipient, client_told
from app.services.delivery.one_time_tokens import VOIDABLE
from app.services.operations.audit import Actor, AuditService, UserActor
from app.services.protection.guesses import GuessService
from app.services.protection.hashing import HashingPool
from app.services.protection.password_policy import NewPassword, PasswordPolicy
from app.services.protection.turns import Lane, Turn

log = structlog.get_logger(__name__)
T = TypeVar("T")

_verified_hash = bindparam("verified_hash", type_=User.hashed_password.type)
_REPLACE_HASH: Final = (
    update(User)
    .where(
        User.id == bindparam("user_id"),
        or_(_verified_hash.is_(None), and_(User.hashed_password == _verified_hash, User.is_active)),
    )
    .values(hashed_password=bindparam("new_hash"))
    .returning(User.email, User.email_verified_at.is_not(None).label("email_verified"))
)


@dataclass(frozen=True, slots=True)
class PasswordChangeService:
    db: Database
    passwords: PasswordService
    guesses: GuessService
    policy: PasswordPolicy
    hashing: HashingPool
    sessions: SessionRevoker
    mails: AccountMails
    audit: AuditService
    actions: AdminActions

    def change(
        self,
        user: UserActor,
        current: str,
        new: NewPassword,
        finish: Callable[[Transaction, VerifiedUser], T],
    ) -> T:
        """Revokes all sessions of the user. What `finish` does belongs to the same transaction.

        Raises InvalidCredentials, PasswordTooShort, PasswordTooCommon.
        """
        self.policy.check(new)
        verified = self.passwords.verify_again(user, current)
        return self._change(user, verified.hashed_password, self._hash(user, new), finish)

    @retry_conflicts
    def _change(
        self,
        user: UserActor,
        verified_hash: str,
        new_hash: str,
        finish: Callable[[Transaction, VerifiedUser], T],
    ) -> T:
        with self.db.transaction() as transaction:
            changed = self._replace(transaction, user, user.user_id, new_hash, verified_hash)
            if changed is None:
                raise InvalidCredentials  # since the verification, it was changed or the user was disabled
            transaction.after_commit(lambda: log.info("user.password_changed", user_id=user.user_id))
            return finish(transaction, changed)

    def set(self, actor: Actor, user_id: int, new: NewPassword) -> None:
        """Revokes all sessions of the user. Raises NotFound, PasswordTooShort, PasswordTooCommon."""
        self.policy.check(new)
        self._set(actor, user_id, self._hash(actor, new))

    def _hash(self, actor: Actor, new: NewPassword) -> str:
        return self.hashing.hash(new.text, Turn(Lane.SIGNED_IN, actor.client.ip_address))

    @retry_conflicts
    def _set(self, actor: Actor, user_id: int, new_hash: str) -> None:
        with self.db.transaction() as transaction:
            if self._replace(transaction, actor, user_id, new_hash, None) is None:
                raise NotFound
            self.actions.report(transaction, "password_set", actor, user_id)

    def _replace(
        self,
        transaction: Transaction,
        actor: Actor,
        user_id: int,
        new_hash: str,
        verified_hash: str | None,
    ) -> VerifiedUser | None:
        """None if the user does not exist, or `verified_hash` is no longer the hash of an active user."""
        parameters = {"user_id": user_id, "verified_hash": verified_hash, "new_hash": new_hash}
        rows = transaction.execute(_REPLACE_HASH, parameters)
        if not rows:
            return None
        changed = VerifiedUser(user_id, new_hash, rows[0].email, rows[0].email_verified)
        self.guesses.forget(transaction, [changed.email], user_id)
        self.audit.record(transaction, AuditEventName.PASSWORD_CHANGED, actor, user_id)
        self.sessions.revoke_all(transaction, actor, user_id, RevocationReason.PASSWORD_CHANGE)
        self.mails.tokens.void(transaction, user_id, *VOIDABLE)
        to = Recipient(user_id, changed.email)
        self.mails.notify(transaction, "password_changed", to, client_told(actor, user_id))
        return changed
