"""Passwords that are chosen by the link of a mail: forgotten ones, and the first one of who was invited."""

from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import DateTime, bindparam, func, select, update

from app.clock import Clock
from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import InvalidLink
from app.models import User
from app.models.audit import AuditEventName
from app.models.one_time_tokens import Purpose
from app.models.sessions import RevocationReason
from app.models.users import Role
from app.services.accounts.admin_actions import AdminActions
from app.services.accounts.locking import LockedAccounts
from app.services.accounts.profile import Account
from app.services.accounts.session_revoker import SessionRevoker
from app.services.credentials.mail_requests import MailRequests
from app.services.delivery.account_mails import SOMEBODY_ELSE, AccountMails, Recipient
from app.services.delivery.one_time_tokens import VOIDABLE
from app.services.operations.audit import Actor, Anonymous, AuditService, Client
from app.services.protection.guesses import GuessService
from app.services.protection.hashing import HashingPool
from app.services.protection.password_policy import NewPassword, PasswordPolicy
from app.services.protection.turns import Lane, Turn

log = structlog.get_logger(__name__)

_PURPOSES: Final = (Purpose.PASSWORD_RESET, Purpose.INVITATION)
_NOBODY: Final = 0
# Guests share their account, and cannot change what others log in with.
_SELECT: Final = select(User.id, User.is_active).where(
    User.email == bindparam("address"), User.role != Role.GUEST
)
_REPLACE_HASH: Final = (
    update(User)
    .where(User.id == bindparam("user_id"), User.is_active)
    .values(
        hashed_password=bindparam("new_hash"),
        # Whoever has the link reads the mails of this address.
        email_verified_at=func.coalesce(
            User.email_verified_at, bindparam("now", type_=DateTime(timezone=True))
        ),
    )
    .returning(User.email)
)


@dataclass(frozen=True, slots=True)
class PasswordRecoveryService:
    db: Database
    requests: MailRequests
    mails: AccountMails
    policy: PasswordPolicy
    hashing: HashingPool
    guesses: GuessService
    sessions: SessionRevoker
    audit: AuditService
    actions: AdminActions
    clock: Clock

    def request(self, email: str, client: Client) -> None:
        """Mails the owner a link. Nothing says whether there is one: not even how long it takes.

        `email` must be normalized. Raises MailNotConfigured, TooManyRequests.
        """
        self.mails.check()
        with self.requests.limited("reset", (email,), client):
            self._request(email, client)

    @retry_conflicts
    def _request(self, email: str, client: Client) -> None:
        with self.db.transaction() as transaction:
            rows = transaction.execute(_SELECT, {"address": email})
            user_id, is_active = (rows[0].id, rows[0].is_active) if rows else (_NOBODY, True)
            self._send(transaction, Recipient(user_id, email), client, is_active=is_active)
            event, known_id = AuditEventName.PASSWORD_RESET_REQUESTED, user_id or None
            self.audit.record(transaction, event, Anonymous(client), known_id)
            transaction.after_commit(lambda: log.info("user.password_reset_requested", user_id=known_id))

    def _send(self, transaction: Transaction, to: Recipient, client: Client, *, is_active: bool) -> None:
        if is_active:
            self.mails.send_link(transaction, "password_reset", to, client)
        else:
            self.mails.tokens.void(transaction, to.user_id, *_PURPOSES)
            self.mails.notify(transaction, "account_disabled", to, client)

    @retry_conflicts
    def start(self, actor: Actor, account: Account) -> None:
        """For administrators, who never choose a password for others (OWASP ASVS 5.0, 6.4.6).

        Raises Forbidden, NotFound, MailNotConfigured.
        """
        self.mails.check()
        with self.db.transaction() as transaction:
            locked = LockedAccounts.lock(transaction, account.id)
            target = locked.require_target()
            locked.ensure_still_admin(actor)
            to = Recipient(target.id, target.email)
            self.mails.tokens.void(transaction, target.id, Purpose.EMAIL_CHANGE)
            self._send(transaction, to, SOMEBODY_ELSE, is_active=target.is_active)
            self.audit.record(transaction, AuditEventName.PASSWORD_RESET_REQUESTED, actor, target.id)
            self.actions.report(transaction, "password_reset_started", actor, target.id)

    def reset(self, token: str, password: str, client: Client) -> None:
        """Ends all sessions of the user. The link still works after a password that the rules refuse.

        Raises InvalidLink, PasswordTooShort, PasswordTooCommon.
        """
        email = self.mails.tokens.owner_of(self.db, token, *_PURPOSES)
        if email is None:
            raise InvalidLink
        new = NewPassword(password, email, "new_password")
        self.policy.check(new)
        new_hash = self.hashing.hash(new.text, Turn(Lane.SIGNED_IN, client.ip_address))
        self._reset(token, new_hash, client)

    @retry_conflicts
    def _reset(self, token: str, new_hash: str, client: Client) -> None:
        with self.db.transaction() as transaction:
            spent = self.mails.tokens.spend(transaction, token, *_PURPOSES)
            if spent is None:
                raise InvalidLink  # another request was faster
            user_id, actor = spent.user_id, Anonymous(client)
            parameters = {"user_id": user_id, "new_hash": new_hash, "now": self.clock()}
            rows = transaction.execute(_REPLACE_HASH, parameters)
            if not rows:
                raise InvalidLink  # disabled
            self.guesses.forget(transaction, [rows[0].email], user_id)
            self.audit.record(transaction, AuditEventName.PASSWORD_RESET, actor, user_id, by=spent.purpose)
            self.sessions.revoke_all(transaction, actor, user_id, RevocationReason.PASSWORD_RESET)
            self.mails.tokens.void(transaction, user_id, *VOIDABLE)
            if spent.purpose == Purpose.PASSWORD_RESET:
                self.mails.notify(transaction, "recovery_used", Recipient(user_id, rows[0].email), client)
            transaction.after_commit(lambda: log.info("user.password_reset", user_id=user_id))
