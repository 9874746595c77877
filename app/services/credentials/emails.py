"""Emails that their owners confirm, change, and get back."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import DateTime, Executable, bindparam, exists, null, select, update
from sqlalchemy.exc import IntegrityError

from app.clock import Clock
from app.database.failures import violated_constraint
from app.database.transactions import Database, Rows, Transaction, retry_conflicts
from app.errors import EmailTaken, Forbidden, InvalidLink, TooManyRequests
from app.models import User
from app.models.audit import AuditEventName
from app.models.one_time_tokens import Purpose
from app.models.sessions import RevocationReason
from app.services.accounts.profile import Account
from app.services.accounts.session_revoker import SessionRevoker
from app.services.credentials.mail_requests import MailRequests
from app.services.credentials.passwords import PasswordService, VerifiedUser
from app.services.delivery.account_mails import AccountMails, Recipient
from app.services.delivery.one_time_tokens import SpentToken
from app.services.operations.audit import Anonymous, AuditService, Client, UserActor
from app.services.protection.guesses import GuessService

log = structlog.get_logger(__name__)

_now = bindparam("now", type_=DateTime(timezone=True))
_is_user = User.id == bindparam("user_id")
_EXISTS: Final = select(exists().where(User.email == bindparam("wanted")))
_VERIFY: Final = (
    update(User)
    .where(_is_user, User.email == bindparam("confirmed"), User.is_active)
    .values(email_verified_at=_now)
    .returning(User.id)
)
_CHANGE: Final = (
    update(User)
    .where(_is_user, User.is_active)
    .values(email=bindparam("new_email"), email_verified_at=_now)
    .returning(User.is_active)
)
_RESTORE: Final = (
    update(User)
    .where(_is_user)
    .values(email=bindparam("new_email"), email_verified_at=_now, hashed_password=null())
    .returning(User.is_active)
)


@dataclass(frozen=True, slots=True)
class EmailService:
    """`fixed` are the emails of BOOTSTRAP_USERS: whose is changed would be created again by a later start."""

    db: Database
    requests: MailRequests
    passwords: PasswordService
    mails: AccountMails
    guesses: GuessService
    sessions: SessionRevoker
    audit: AuditService
    clock: Clock
    fixed: frozenset[str]

    def send_verification(self, account: Account, client: Client) -> bool:
        """False if there is nothing to verify any more. Raises MailNotConfigured, TooManyRequests."""
        self.mails.check()
        if account.email_verified:
            return False
        self._send_verification(account.id, account.email, client)
        return True

    def remind(self, user_id: int, email: str, client: Client) -> None:
        """Like `send_verification`, as often as may be."""
        with suppress(TooManyRequests):
            self._send_verification(user_id, email, client)

    def _send_verification(self, user_id: int, email: str, client: Client) -> None:
        with self.requests.limited("verification", (email,), client), self.db.transaction() as transaction:
            to = Recipient(user_id, email)
            self.mails.send_link(transaction, "email_verification", to, client, email=email)

    def request_change(self, user: UserActor, new_email: str, password: str) -> None:
        """Mails a link to `new_email`, which must be normalized, and a way back to the old one.

        Raises InvalidCredentials, Forbidden, EmailTaken, MailNotConfigured, TooManyRequests.
        """
        self.mails.check()
        verified = self.passwords.verify_again(user, password)
        if verified.email in self.fixed:
            raise Forbidden
        with self.requests.limited("change", (str(user.user_id), new_email), user.client):
            if self.db.execute(_EXISTS, {"wanted": new_email})[0][0]:
                raise EmailTaken
            self._request_change(user, verified, new_email)

    @retry_conflicts
    def _request_change(self, user: UserActor, verified: VerifiedUser, new_email: str) -> None:
        user_id, client, mails = user.user_id, user.client, self.mails
        with self.db.transaction() as transaction:
            now = self.passwords.confirm(transaction, verified)
            old, new = Recipient(user_id, now.email), Recipient(user_id, new_email)
            mails.send_link(transaction, "email_change", new, client, email=new_email)
            mails.send_link(transaction, "email_change_notice", old, client, email=old.email)
            if now.email_verified:
                mails.tokens.reserve(transaction, user_id, old.email)
            self.audit.record(transaction, AuditEventName.EMAIL_CHANGE_REQUESTED, user, user_id)
            transaction.after_commit(lambda: log.info("user.email_change_requested", user_id=user_id))

    @retry_conflicts
    def confirm(self, token: str, client: Client) -> None:
        """That mail arrives at the email of an account, or at a new one, which it then gets.

        Raises InvalidLink; EmailTaken of a new email that somebody else has by now.
        """
        with self.db.transaction() as transaction:
            spent = self._spend(transaction, token, Purpose.EMAIL_VERIFICATION, Purpose.EMAIL_CHANGE)
            if spent.purpose == Purpose.EMAIL_CHANGE:
                self._change(transaction, spent, client)
            else:
                self._verify(transaction, spent, client)

    def _verify(self, transaction: Transaction, spent: SpentToken, client: Client) -> None:
        parameters = {"user_id": spent.user_id, "confirmed": spent.email, "now": self.clock()}
        if not transaction.execute(_VERIFY, parameters):
            raise InvalidLink
        self._report(transaction, AuditEventName.EMAIL_VERIFIED, spent.user_id, client)

    def _change(self, transaction: Transaction, spent: SpentToken, client: Client) -> None:
        to, _ = self._give(transaction, _CHANGE, spent)
        outdated = (Purpose.PASSWORD_RESET, Purpose.INVITATION, Purpose.EMAIL_VERIFICATION)
        self.mails.tokens.void(transaction, to.user_id, *outdated)
        self._report(transaction, AuditEventName.EMAIL_CHANGED, to.user_id, client)
        self.mails.notify(transaction, "email_changed", to, client)

    @retry_conflicts
    def restore(self, token: str, client: Client) -> None:
        """The account keeps or gets back its old email, and has no password: somebody else knows it.

        All sessions end. A mail with a link to choose a password follows. Raises InvalidLink, EmailTaken.
        """
        with self.db.transaction() as transaction:
            spent = self._spend(transaction, token, Purpose.EMAIL_RESTORE)
            to, is_active = self._give(transaction, _RESTORE, spent)
            actor = Anonymous(client)
            others = (each for each in Purpose if each != Purpose.EMAIL_RESTORE)
            self.mails.tokens.void(transaction, to.user_id, *others)
            since = spent.created_at  # an earlier email of the account can still be gone back to
            self.mails.tokens.void(transaction, to.user_id, Purpose.EMAIL_RESTORE, since=since)
            self._report(transaction, AuditEventName.EMAIL_RESTORED, to.user_id, client)
            self.sessions.revoke_all(transaction, actor, to.user_id, RevocationReason.PASSWORD_RESET)
            if is_active:
                self.mails.send_link(transaction, "password_reset", to, client)
            else:
                self.mails.notify(transaction, "account_disabled", to, client)

    def _spend(self, transaction: Transaction, token: str, *purposes: Purpose) -> SpentToken:
        spent = self.mails.tokens.spend(transaction, token, *purposes)
        if spent is None:
            raise InvalidLink
        return spent

    def _give(
        self, transaction: Transaction, statement: Executable, spent: SpentToken
    ) -> tuple[Recipient, bool]:
        """The email of the token to its user; whether they are active. Raises InvalidLink, EmailTaken."""
        to = Recipient(spent.user_id, str(spent.email))
        if self.mails.tokens.is_way_back_of_others(transaction, to.email, to.user_id):
            raise EmailTaken
        rows = self._update(transaction, statement, to)
        if not rows:
            raise InvalidLink
        self.guesses.forget(transaction, [to.email], to.user_id)
        return to, rows[0].is_active

    def _update(self, transaction: Transaction, statement: Executable, to: Recipient) -> Rows:
        parameters = {"user_id": to.user_id, "new_email": to.email, "now": self.clock()}
        try:
            return transaction.execute(statement, parameters)
        except IntegrityError as error:
            if violated_constraint(error) == "uq_users_email":
                raise EmailTaken from None
            raise

    def _report(self, transaction: Transaction, event: AuditEventName, user_id: int, client: Client) -> None:
        self.audit.record(transaction, event, Anonymous(client), user_id)
        transaction.after_commit(lambda: log.info(str(event), user_id=user_id))
