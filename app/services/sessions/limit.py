"""At most so many sessions for each user."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, select

from app.clock import Clock
from app.database.transactions import Transaction
from app.models import LoginSession
from app.models.sessions import RevocationReason, is_live
from app.services.operations.audit import UserActor
from app.services.sessions.revocation import Revocation, RevocationService

_SELECT_SURPLUS: Final = (
    select(LoginSession.id)
    .where(LoginSession.user_id == bindparam("owner"), LoginSession.id != bindparam("newest"), *is_live())
    .order_by(func.coalesce(LoginSession.rotated_at, LoginSession.created_at).desc())
    .offset(bindparam("others"))
)


@dataclass(frozen=True, slots=True)
class SessionLimit:
    most: int
    revocation: RevocationService
    clock: Clock

    def enforce(self, transaction: Transaction, actor: UserActor, newest: UUID) -> None:
        """Revoke the least recently used sessions over the limit, but not the one just opened.

        The caller has locked the user's row. The clock of another replica may be ahead, so the times of
        the sessions do not say which one is `newest`.
        """
        parameters = {"owner": actor.user_id, "newest": newest, "others": self.most - 1, "now": self.clock()}
        surplus = [row.id for row in transaction.execute(_SELECT_SURPLUS, parameters)]
        if surplus:
            revocation = Revocation(actor, actor.user_id, RevocationReason.SESSION_LIMIT, only=surplus)
            self.revocation.revoke_within(transaction, revocation)
