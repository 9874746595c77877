"""Administration of users' sessions."""

from dataclasses import dataclass
from uuid import UUID

from app.database.transactions import Database, Rows, retry_conflicts
from app.errors import NotFound
from app.models.sessions import RevocationReason
from app.services.accounts.admin import AdminService
from app.services.accounts.admin_actions import AdminActions
from app.services.operations.audit import Actor
from app.services.sessions.listing import SessionService
from app.services.sessions.revocation import Revocation, RevocationService


@dataclass(frozen=True, slots=True)
class SessionAdminService:
    db: Database
    accounts: AdminService
    sessions: SessionService
    revocation: RevocationService
    actions: AdminActions

    def list_active(self, user_id: int, after: UUID | None = None, limit: int = 1000) -> Rows:
        """Raises NotFound if the user does not exist."""
        self.accounts.get(user_id)
        return self.sessions.list_active(user_id, after, limit)

    @retry_conflicts
    def revoke(self, actor: Actor, user_id: int, session_id: UUID | None = None) -> int:
        """Revokes all sessions of the user, or one. Returns the number. Raises NotFound."""
        self.accounts.get(user_id)
        revocation = Revocation(
            actor, user_id, RevocationReason.ADMIN, only=[session_id] if session_id else None
        )
        with self.db.transaction() as transaction:
            number = self.revocation.revoke_within(transaction, revocation)
            if session_id is not None and not number:
                raise NotFound
            self.actions.report(transaction, "sessions_ended", actor, user_id, number=number)
        return number
