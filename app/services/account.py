"""What people do with their own accounts."""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import and_, bindparam, or_, update

from app.database import Database, retry_conflicts
from app.errors import InvalidCredentials
from app.models import User
from app.models.audit import AuditEventName
from app.models.sessions import EndReason
from app.services.audit import Actor, AuditService
from app.services.sessions import Ending, SessionService
from app.services.users import UserService, lock_with_admins

log = structlog.get_logger(__name__)

_verified = bindparam("verified", type_=User.hashed_password.type)
_REPLACE_HASH = (
    update(User)
    .where(
        User.id == bindparam("user_id"),
        or_(_verified.is_(None), and_(User.hashed_password == _verified, User.is_active)),
    )
    .values(hashed_password=bindparam("new_hash"))
    .returning(User.id)
)


@dataclass(frozen=True, slots=True)
class AccountService:
    db: Database
    users: UserService
    sessions: SessionService
    audit: AuditService

    def change_password(self, actor: Actor, current: str, new: str, spared: UUID | None) -> None:
        """All sessions end but the `spared` one. Raises InvalidCredentials, PasswordTooShort."""
        assert actor.user_id is not None
        user = self.users.verify_password_of(actor.user_id, current, actor.client)
        new_hash = self.users.passwords.hash_new(new)
        if not self.replace_hash(actor, user.id, new_hash, verified=user.hashed_password, spared=spared):
            raise InvalidCredentials  # it was changed, or the user disabled, since it was verified
        log.info("user.password_changed", user_id=user.id)

    @retry_conflicts
    def replace_hash(
        self, actor: Actor, user_id: int, new_hash: str, *, verified: str | None, spared: UUID | None
    ) -> bool:
        """All sessions end but the `spared` one.

        False where there is no such user, or `verified` is given and not an active user's hash any more.
        """
        parameters = {"user_id": user_id, "verified": verified, "new_hash": new_hash}
        with self.db.transaction() as connection:
            if not connection.execute(_REPLACE_HASH, parameters).all():
                return False
            self.audit.record(connection, AuditEventName.PASSWORD_CHANGED, actor, user_id)
            ended = self.sessions.end(
                connection, Ending(actor, user_id, EndReason.PASSWORD_CHANGE, spared=spared)
            )
        self.sessions.announce_end(user_id, ended)
        return True

    def delete(self, actor: Actor, password: str) -> None:
        """The account and its sessions are gone. Raises InvalidCredentials, LastAdmin."""
        assert actor.user_id is not None
        user = self.users.verify_password_of(actor.user_id, password, actor.client)
        self._delete(actor, user.id)
        log.info("user.deleted", user_id=user.id, actor_id=user.id)

    @retry_conflicts
    def _delete(self, actor: Actor, user_id: int) -> None:
        with self.db.transaction() as connection:
            lock_with_admins(connection, user_id).check_still_one_without(user_id)
            self.users.delete(connection, actor, user_id)
