"""What people do with their own accounts."""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import bindparam, delete, update

from app.database import Database, retry_conflicts
from app.errors import InvalidCredentials
from app.models import User
from app.models.audit import AuditEventName
from app.models.sessions import EndReason
from app.services.audit import Actor, AuditService
from app.services.sessions import Ending, SessionService
from app.services.users import UserService, VerifiedUser, lock_with_admins

log = structlog.get_logger(__name__)

_SET_HASH = (
    update(User)
    .where(User.id == bindparam("user_id"), User.hashed_password == bindparam("old_hash"), User.is_active)
    .values(hashed_password=bindparam("new_hash"))
    .returning(User.id)
)
_DELETE = delete(User).where(User.id == bindparam("user_id"))


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
        self._set_hash(actor, user, self.users.passwords.hash_new(new), spared)
        log.info("user.password_changed", user_id=user.id)

    @retry_conflicts
    def _set_hash(self, actor: Actor, user: VerifiedUser, new_hash: str, spared: UUID | None) -> None:
        parameters = {"user_id": user.id, "old_hash": user.hashed_password, "new_hash": new_hash}
        with self.db.transaction() as connection:
            if not connection.execute(_SET_HASH, parameters).all():
                raise InvalidCredentials  # it was changed, or the user disabled, since it was verified
            self.audit.record(connection, AuditEventName.PASSWORD_CHANGED, actor, user.id)
            ending = Ending(actor, user.id, EndReason.PASSWORD_CHANGE, spared=spared)
            ended = self.sessions.end(connection, ending)
        self.sessions.announce_end(user.id, ended)

    def delete(self, actor: Actor, password: str) -> None:
        """The account and its sessions are gone. Raises InvalidCredentials, LastAdmin."""
        assert actor.user_id is not None
        user = self.users.verify_password_of(actor.user_id, password, actor.client)
        self._delete(actor, user)
        log.info("user.deleted", user_id=user.id, actor_id=user.id)

    @retry_conflicts
    def _delete(self, actor: Actor, user: VerifiedUser) -> None:
        with self.db.transaction() as connection:
            lock_with_admins(connection, user.id).check_still_one_without(user.id)
            connection.execute(_DELETE, {"user_id": user.id})
            self.audit.record(connection, AuditEventName.USER_DELETED, actor, user.id)
