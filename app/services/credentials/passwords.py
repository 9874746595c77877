"""Password verification."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Row, bindparam, select, update

from app.database.transactions import Database, Rows, Transaction
from app.errors import InvalidCredentials
from app.models import User
from app.models.audit import AuditEventName
from app.security.emails import normalize_email
from app.services.operations.audit import Anonymous, AuditService, Client, UserActor
from app.services.protection.guesses import Guess, GuessService
from app.services.protection.hashing import HashingPool
from app.services.protection.turns import Lane, Turn
from app.telemetry.metrics import SessionMetrics

log = structlog.get_logger(__name__)

_PROOF = (
    *(User.id, User.hashed_password, User.is_active, User.email, User.role),
    User.email_verified_at.is_not(None).label("email_verified"),
)
_SELECT_BY_EMAIL: Final = select(*_PROOF).where(User.email == bindparam("email_address"))
_SELECT_BY_ID: Final = select(*_PROOF).where(User.id == bindparam("user_id"))
_SELECT_UNCHANGED: Final = (
    select(User.email, User.email_verified_at.is_not(None).label("email_verified"))
    .where(
        User.id == bindparam("user_id"), User.is_active, User.hashed_password == bindparam("verified_hash")
    )
    .with_for_update(key_share=True)
)
_REHASH: Final = (
    update(User)
    .where(User.id == bindparam("user_id"), User.hashed_password == bindparam("old_hash"))
    .values(hashed_password=bindparam("new_hash"))
    .returning(User.id)
)


class VerifiedUser(NamedTuple):
    """The password matched `hashed_password`; the stored hash may have changed since."""

    id: int
    hashed_password: str
    email: str
    email_verified: bool


@dataclass(frozen=True, slots=True)
class PasswordService:
    db: Database
    guesses: GuessService
    hashing: HashingPool
    audit: AuditService
    metrics: SessionMetrics

    def find(self, username: str) -> Rows:
        """One row, or none if there is no such account."""
        try:
            email = normalize_email(username)
        except ValueError:
            return ()
        return self.db.execute(_SELECT_BY_EMAIL, {"email_address": email})

    def verify_login(self, found: Rows, password: str, guess: Guess) -> VerifiedUser:
        """Raises InvalidCredentials; neither the error nor its timing reveals the reason."""
        turn = Turn(Lane.LOGIN, guess.client.ip_address, known_device=guess.device is not None)
        user = self._verify(found, password, guess.client, turn)
        rehashed = self.hashing.rehash_if_needed(password, user.hashed_password, turn)
        if rehashed is None:
            return VerifiedUser(user.id, user.hashed_password, user.email, user.email_verified)
        parameters = {"user_id": user.id, "old_hash": user.hashed_password, "new_hash": rehashed}
        if not self.db.execute(_REHASH, parameters):
            # A concurrent login has replaced the hash, or the password has changed.
            now_found = self.db.execute(_SELECT_BY_ID, {"user_id": user.id})
            return self.verify_login(now_found, password, guess)
        return VerifiedUser(user.id, rehashed, user.email, user.email_verified)

    def verify_again(self, user: UserActor, password: str) -> VerifiedUser:
        """For a signed-in user. Raises InvalidCredentials, counted as a failed login; TooManyRequests."""
        turn = Turn(Lane.SIGNED_IN, user.client.ip_address)
        with self.guesses.proof(user):
            rows = self.db.execute(_SELECT_BY_ID, {"user_id": user.user_id})
            row = self._verify(rows, password, user.client, turn)
        return VerifiedUser(row.id, row.hashed_password, row.email, row.email_verified)

    @staticmethod
    def confirm(transaction: Transaction, verified: VerifiedUser) -> VerifiedUser:
        """Locks the user's row, so that a password that was replaced meanwhile lets nobody do anything.

        Raises InvalidCredentials if the user was disabled, deleted or given another password since.
        """
        parameters = {"user_id": verified.id, "verified_hash": verified.hashed_password}
        rows = transaction.execute(_SELECT_UNCHANGED, parameters)
        if not rows:
            raise InvalidCredentials
        return verified._replace(email=rows[0].email, email_verified=rows[0].email_verified)

    def _verify(self, rows: Rows, password: str, client: Client, turn: Turn) -> Row[Any]:
        user = rows[0] if rows else None
        matches = self.hashing.verify(password, user.hashed_password if user else None, turn)
        if user is None:
            self.record_failed_login("unknown_email", None, client)
            raise InvalidCredentials
        if not matches:
            self.record_failed_login("wrong_password", user.id, client)
            raise InvalidCredentials
        if not user.is_active:
            self.record_failed_login("disabled", user.id, client)
            raise InvalidCredentials
        return user

    def record_failed_login(self, reason: str, user_id: int | None, client: Client) -> None:
        """`reason` is for operators; the client never receives it."""
        event = AuditEventName.LOGIN_FAILED
        self.audit.record(self.db, event, Anonymous(client), user_id, reason=reason)
        self.metrics.login_failures.labels(reason).inc()
        log.warning("login.failed", reason=reason, user_id=user_id, ip_address=client.ip_address)
