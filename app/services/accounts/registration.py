"""Creation of accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Executable, bindparam, insert, select
from sqlalchemy.exc import IntegrityError

from app.clock import Clock
from app.database.failures import violated_constraint
from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import EmailTaken, TooManyRequests
from app.models import User
from app.models.audit import AuditEventName
from app.models.users import Role
from app.security.throttle_keys import address_block
from app.services.accounts.profile import ACCOUNT_COLUMNS, Account
from app.services.delivery.account_mails import AccountMails, Recipient
from app.services.delivery.one_time_tokens import is_way_back
from app.services.operations.audit import AuditService, Client, UserActor
from app.services.protection.guesses import GuessService
from app.services.protection.hashing import HashingPool
from app.services.protection.password_policy import NewPassword, PasswordPolicy
from app.services.protection.throttling import Bucket, ThrottleService
from app.services.protection.turns import Lane, Turn
from app.telemetry.metrics import AccountMetrics

log = structlog.get_logger(__name__)

_NAMES: Final = ("email", "hashed_password", "role", "created_at", "email_verified_at")


def _insert_unless_way_back(*names: str) -> Executable:
    values = {name: bindparam(name, type_=getattr(User, name).type) for name in names}
    user = select(*(value.label(name) for name, value in values.items()))
    allowed = user.where(~is_way_back(values["email"], values["created_at"]))
    return insert(User).from_select(names, allowed).returning(*ACCOUNT_COLUMNS)


_INSERT: Final = _insert_unless_way_back(*_NAMES)
_INSERT_WITH_ID: Final = _insert_unless_way_back(*_NAMES, "id")


class NewAccount(NamedTuple):
    """`email` is normalized. Without a password nobody logs in. An `id` that is given must be free."""

    email: str
    hashed_password: str | None
    role: Role
    is_verified: bool = False
    id: int | None = None


@dataclass(frozen=True, slots=True)
class RegistrationService:
    db: Database
    throttle: ThrottleService
    guesses: GuessService
    policy: PasswordPolicy
    hashing: HashingPool
    mails: AccountMails
    audit: AuditService
    clock: Clock
    metrics: AccountMetrics

    def register(self, email: str, password: str, client: Client) -> Account:
        """`email` must be normalized. Raises EmailTaken, InvalidInput, PasswordTooCommon, TooManyRequests."""
        self.policy.check(NewPassword(password, email))
        with self._limited(client):
            return self._register(email, self._hash(password, client), client)

    @contextmanager
    def _limited(self, client: Client) -> Iterator[None]:
        charges = self.throttle.charges({Bucket.REGISTER_ADDRESS: address_block(client.ip_address)})
        try:
            self.throttle.charge(charges)
        except TooManyRequests as error:
            self.throttle.report(error, "registration.throttled", client)
            raise
        with self.throttle.undone_if_unserved(charges):
            yield

    def hash_new(self, password: NewPassword, client: Client) -> str:
        """Raises PasswordTooShort, PasswordTooCommon before it enters the hashing queue."""
        self.policy.check(password)
        return self._hash(password.text, client)

    def _hash(self, password: str, client: Client) -> str:
        return self.hashing.hash(password, Turn(Lane.REGISTRATION, client.ip_address))

    @retry_conflicts
    def _register(self, email: str, hashed_password: str, client: Client) -> Account:
        with self.db.transaction() as transaction:
            account = self.insert(transaction, NewAccount(email, hashed_password, Role.USER))
            to = Recipient(account.id, email)
            self.mails.send_link(transaction, "email_verification", to, client, email=email)
            actor = UserActor(account.id, client)
            self.audit.record(transaction, AuditEventName.USER_REGISTERED, actor, account.id)
            transaction.after_commit(lambda: self._report(account.id))
        return account

    def hash_unchecked(self, password: str) -> str:
        """For a password that is taken as it is."""
        return self._hash(password, Client(None, None))

    def insert(self, transaction: Transaction, new: NewAccount) -> Account:
        """Raises EmailTaken, also of an email that somebody can still go back to."""
        now = self.clock()
        values = {
            "email": new.email,
            "hashed_password": new.hashed_password,
            "role": new.role,
            "created_at": now,
            "email_verified_at": now if new.is_verified else None,
        } | ({} if new.id is None else {"id": new.id})
        try:
            rows = transaction.execute(_INSERT if new.id is None else _INSERT_WITH_ID, values)
        except IntegrityError as error:
            if violated_constraint(error) == "uq_users_email":
                raise EmailTaken from None
            raise
        if not rows:
            raise EmailTaken
        self.guesses.forget(transaction, [new.email])  # or a stranger could lock an account before it exists
        return Account._make(rows[0])

    def _report(self, user_id: int) -> None:
        self.metrics.registrations.labels("password").inc()
        log.info("user.registered", user_id=user_id)
