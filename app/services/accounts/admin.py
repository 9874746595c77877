"""Administration of user accounts, for the API and the command line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from unicodedata import normalize

from sqlalchemy import Select, bindparam, func, select, update

from app.database.transactions import Database, Executor, Rows, Transaction, retry_conflicts
from app.errors import NotFound
from app.models import User
from app.models.audit import AuditEventName
from app.models.sessions import RevocationReason
from app.models.users import Role
from app.services.accounts.admin_actions import AdminActions
from app.services.accounts.deletion import DeletionService
from app.services.accounts.locking import LockedAccounts
from app.services.accounts.profile import ACCOUNT_COLUMNS, Account
from app.services.accounts.registration import NewAccount, RegistrationService
from app.services.accounts.session_revoker import SessionRevoker
from app.services.delivery.account_mails import SOMEBODY_ELSE, AccountMails, Recipient
from app.services.delivery.one_time_tokens import VOIDABLE
from app.services.delivery.revocations import RevocationFeed
from app.services.operations.audit import Actor, AuditService
from app.services.protection.password_policy import NewPassword

_SELECT_BY_ID: Final = select(*ACCOUNT_COLUMNS).where(User.id == bindparam("user_id"))
_SELECT_BY_EMAIL: Final = select(*ACCOUNT_COLUMNS).where(User.email == bindparam("email"))
_SELECT_PAGE: Final = select(*ACCOUNT_COLUMNS).order_by(User.id)
_COUNT: Final = select(func.count()).select_from(User)
_CHANGE: Final = (
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(role=bindparam("new_role"), is_active=bindparam("new_is_active"))
)


_ACTIONS: Final = {
    AuditEventName.USER_CREATED: "user_created",
    AuditEventName.USER_INVITED: "user_invited",
    AuditEventName.USER_ROLE_CHANGED: "role_changed",
    AuditEventName.USER_ENABLED: "user_enabled",
    AuditEventName.USER_DISABLED: "user_disabled",
}


class UserFilter(NamedTuple):
    """`q` is a prefix of the email."""

    q: str | None = None
    role: Role | None = None
    is_active: bool | None = None

    def apply(self, statement: Select[Any]) -> Select[Any]:
        if self.q:
            beginning = normalize("NFC", self.q.strip().lower())
            statement = statement.where(User.email.startswith(beginning, autoescape=True))
        if self.role is not None:
            statement = statement.where(User.role == self.role)
        if self.is_active is not None:
            statement = statement.where(User.is_active if self.is_active else ~User.is_active)
        return statement


@dataclass(frozen=True, slots=True)
class AdminService:
    """Methods with an `actor` raise Forbidden if this user is no longer an active admin."""

    db: Database
    reads: Executor
    registration: RegistrationService
    deletion: DeletionService
    sessions: SessionRevoker
    feed: RevocationFeed
    mails: AccountMails
    audit: AuditService
    actions: AdminActions

    def list(self, filters: UserFilter, *, after: int, limit: int) -> Sequence[Account]:
        """Keyset pagination: ordered by id, starting after the id `after`."""
        statement = filters.apply(_SELECT_PAGE).where(User.id > after).limit(limit)
        return [Account._make(row) for row in self.reads.execute(statement)]

    def count(self, filters: UserFilter) -> int:
        """Takes time proportional to the result."""
        return int(self.reads.execute(filters.apply(_COUNT))[0][0])

    def get(self, user_id: int) -> Account:
        """Raises NotFound."""
        return _only(self.db.execute(_SELECT_BY_ID, {"user_id": user_id}))

    def find(self, email: str) -> Account:
        """`email` must be normalized. Raises NotFound."""
        return _only(self.db.execute(_SELECT_BY_EMAIL, {"email": email}))

    def create(self, actor: Actor, password: NewPassword, role: Role) -> Account:
        """Raises EmailTaken, PasswordTooShort, PasswordTooCommon."""
        hashed_password = self.registration.hash_new(password, actor.client)
        return self._create(actor, password.email, hashed_password, role)

    @retry_conflicts
    def _create(self, actor: Actor, email: str, hashed_password: str, role: Role) -> Account:
        with self.db.transaction() as transaction:
            LockedAccounts.lock(transaction, actor.user_id).ensure_still_admin(actor)
            account = self.registration.insert(
                transaction, NewAccount(email, hashed_password, role, is_verified=True)
            )
            self._record(transaction, AuditEventName.USER_CREATED, actor, account.id, role=role)
        return account

    @retry_conflicts
    def invite(self, actor: Actor, email: str, role: Role) -> Account:
        """An account without a password, whose owner chooses one by the link of a mail.

        `email` must be normalized. Raises EmailTaken, MailNotConfigured.
        """
        self.mails.check()
        with self.db.transaction() as transaction:
            LockedAccounts.lock(transaction, actor.user_id).ensure_still_admin(actor)
            account = self.registration.insert(transaction, NewAccount(email, None, role))
            self.mails.send_link(transaction, "invitation", Recipient(account.id, email), SOMEBODY_ELSE)
            self._record(transaction, AuditEventName.USER_INVITED, actor, account.id, role=role)
        return account

    @retry_conflicts
    def change(
        self, actor: Actor, user_id: int, *, role: Role | None = None, is_active: bool | None = None
    ) -> Account:
        """None means no change. Disabling revokes the user's sessions. Raises NotFound, LastAdmin."""
        with self.db.transaction() as transaction:
            locked = LockedAccounts.lock(transaction, user_id)
            before = locked.require_target()
            after = before._replace(
                role=before.role if role is None else role,
                is_active=before.is_active if is_active is None else is_active,
            )
            if not after.is_active_admin:
                locked.ensure_another_admin(user_id)
            locked.ensure_still_admin(actor)
            parameters = {"user_id": user_id, "new_role": after.role, "new_is_active": after.is_active}
            transaction.execute(_CHANGE, parameters)
            for event, details in _changes(before, after):
                self._record(transaction, event, actor, user_id, **details)
            if not after.is_active:
                self.sessions.revoke_all(transaction, actor, user_id, RevocationReason.USER_DISABLED)
                self.mails.tokens.void(transaction, user_id, *VOIDABLE)
            self._publish(transaction, before, after)
        return after

    def _publish(self, transaction: Transaction, before: Account, after: Account) -> None:
        if before.is_active and not after.is_active:
            self.feed.publish_user(transaction, after.id, "user_disabled")
        elif before.role != after.role:
            self.feed.publish_user(transaction, after.id, "role_changed", role=after.role)

    @retry_conflicts
    def delete(self, actor: Actor, user_id: int) -> None:
        """Also deletes the user's sessions. Raises NotFound, LastAdmin."""
        with self.db.transaction() as transaction:
            self.deletion.delete(transaction, actor, user_id)
            self.actions.report(transaction, "user_deleted", actor, user_id)

    def _record(
        self, transaction: Transaction, event: AuditEventName, actor: Actor, user_id: int, **details: Any
    ) -> None:
        self.audit.record(transaction, event, actor, user_id, **details)
        self.actions.report(transaction, _ACTIONS[event], actor, user_id, **details)


def _only(rows: Rows) -> Account:
    if not rows:
        raise NotFound
    return Account._make(rows[0])


def _changes(before: Account, after: Account) -> Iterator[tuple[AuditEventName, dict[str, str]]]:
    if after.role != before.role:
        details = {"from": str(before.role), "to": str(after.role)}
        yield AuditEventName.USER_ROLE_CHANGED, details
    if after.is_active and not before.is_active:
        yield AuditEventName.USER_ENABLED, {}
    if before.is_active and not after.is_active:
        yield AuditEventName.USER_DISABLED, {}
