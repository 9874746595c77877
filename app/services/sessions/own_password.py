"""Users change their own passwords, and go on in a new session."""

from dataclasses import dataclass

import structlog

from app.database.transactions import Transaction
from app.errors import InvalidCredentials
from app.services.credentials.password_change import PasswordChangeService
from app.services.credentials.passwords import VerifiedUser
from app.services.operations.audit import UserActor
from app.services.protection.password_policy import NewPassword
from app.services.sessions.opening import SessionOpener
from app.services.sessions.tokens import TokenPair, TokenService

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OwnPasswordService:
    changes: PasswordChangeService
    opener: SessionOpener
    tokens: TokenService

    def change(self, user: UserActor, current: str, new: NewPassword) -> TokenPair | None:
        """Ends all sessions of the user, also the one that asks: a thief may have its tokens too.

        The pair is of a new session, or None if no session asked. If it cannot be signed, nothing changes.
        Raises InvalidCredentials, TooManyRequests, PasswordTooShort, PasswordTooCommon, NotReady.
        """
        if user.session_id is not None:
            self.tokens.check_ready()
        return self.changes.change(
            user, current, new, lambda transaction, changed: self._go_on(transaction, user, changed)
        )

    def _go_on(self, transaction: Transaction, user: UserActor, changed: VerifiedUser) -> TokenPair | None:
        if user.session_id is None:
            return None
        opened = self.opener.open(transaction, changed, user.client)
        if opened is None:
            raise InvalidCredentials
        session_id = str(opened.refresh.session_id)
        transaction.after_commit(
            lambda: log.info("session.opened", user_id=user.user_id, session_id=session_id)
        )
        return self.tokens.issue(*opened)
