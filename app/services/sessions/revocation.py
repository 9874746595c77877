"""Revokes sessions, and records the reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, Boolean, DateTime, Row, Uuid, any_, bindparam, case, exists, or_, select, update

from app.clock import Clock
from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import NotFound
from app.models import LoginSession, User
from app.models.audit import AuditEventName
from app.models.sessions import RevocationReason, is_live
from app.models.users import Role
from app.services.delivery.account_mails import AccountMails, Recipient
from app.services.delivery.revocations import RevocationFeed
from app.services.operations.audit import Actor, Anonymous, AuditService, Client, UserActor
from app.telemetry.metrics import SessionMetrics

log = structlog.get_logger(__name__)

_IDS_RECORDED: Final = 50

_only = bindparam("only", type_=ARRAY(Uuid))
_keep, _current = (bindparam(name, type_=Uuid) for name in ("keep", "current"))
_REVOKE: Final = (
    update(LoginSession)
    .where(
        LoginSession.user_id == bindparam("owner"),
        *is_live(),
        or_(_only.is_(None), LoginSession.id == any_(_only)),
        or_(_keep.is_(None), LoginSession.id != _keep),
        or_(
            bindparam("of_guests_too", type_=Boolean),
            LoginSession.id == _current,
            ~exists().where(User.id == LoginSession.user_id, User.role == Role.GUEST),
        ),
    )
    .values(
        revoked_at=bindparam("now", type_=DateTime(timezone=True)),
        revoked_reason=case(
            (LoginSession.id == _current, RevocationReason.LOGOUT), else_=bindparam("reason")
        ),
    )
    .returning(LoginSession.id, LoginSession.revoked_reason)
)
_SELECT_EMAIL: Final = select(User.email).where(User.id == bindparam("user_id"))


class Revocation(NamedTuple):
    """Selects live sessions of a user: all, `only` some, or all except the one to `keep`.

    `current` is the session that the user logs out of: its reason is always `logout`, not `reason`.
    Without `of_guests_too` only that one is selected where guests share the account.
    """

    actor: Actor
    user_id: int
    reason: RevocationReason
    only: Sequence[UUID] | None = None
    keep: UUID | None = None
    current: UUID | None = None
    of_guests_too: bool = True


@dataclass(frozen=True, slots=True)
class RevocationService:
    db: Database
    feed: RevocationFeed
    mails: AccountMails
    audit: AuditService
    clock: Clock
    metrics: SessionMetrics

    def log_out(self, user_id: int, session_id: UUID | None, client: Client, *, everywhere: bool) -> None:
        """Revoke this session or, if `everywhere`, all sessions of the user, unless that is a guest."""
        actor = UserActor(user_id, client)
        if everywhere:
            reason = RevocationReason.LOGOUT_ALL
            self.revoke(Revocation(actor, user_id, reason, current=session_id, of_guests_too=False))
        elif session_id is not None:
            self.revoke(Revocation(actor, user_id, RevocationReason.LOGOUT, only=[session_id]))

    def log_out_of_others(self, user: UserActor, keep: UUID | None) -> None:
        self.revoke(Revocation(user, user.user_id, RevocationReason.LOGOUT_ALL, keep=keep))

    def log_out_of(self, user: UserActor, session_id: UUID) -> None:
        """Raises NotFound if the user has no such live session."""
        if not self.revoke(Revocation(user, user.user_id, RevocationReason.LOGOUT, only=[session_id])):
            raise NotFound

    @retry_conflicts
    def revoke(self, revocation: Revocation) -> int:
        """Uses its own transaction. Returns the number of revoked sessions."""
        with self.db.transaction() as transaction:
            return self.revoke_within(transaction, revocation)

    @retry_conflicts
    def revoke_reused(self, session_id: UUID, user_id: int, client: Client) -> None:
        """Record that a refresh token was reused, so it may be stolen, and revoke its session."""
        log.warning("session.reuse_detected", user_id=user_id, session_id=str(session_id))
        actor, event = Anonymous(client), AuditEventName.REUSE_DETECTED
        revocation = Revocation(actor, user_id, RevocationReason.REUSE_DETECTED, only=[session_id])
        with self.db.transaction() as transaction:
            self.audit.record(transaction, event, actor, user_id, session_id=str(session_id))
            if self.revoke_within(transaction, revocation):
                self._notify(transaction, user_id, client)

    def _notify(self, transaction: Transaction, user_id: int, client: Client) -> None:
        email = transaction.execute(_SELECT_EMAIL, {"user_id": user_id})[0].email
        self.mails.notify(transaction, "refresh_token_reused", Recipient(user_id, email), client)

    def revoke_all(
        self, transaction: Transaction, actor: Actor, user_id: int, reason: RevocationReason
    ) -> None:
        """Revoke a user's sessions within the transaction."""
        self.revoke_within(transaction, Revocation(actor, user_id, reason))

    def revoke_within(self, transaction: Transaction, revocation: Revocation) -> int:
        """Counts and logs after the commit. Returns the number of revoked sessions."""
        actor, user_id, reason = revocation.actor, revocation.user_id, revocation.reason
        parameters = {
            "owner": user_id,
            "now": self.clock(),
            "reason": reason,
            "only": revocation.only,
            "keep": revocation.keep,
            "current": revocation.current,
            "of_guests_too": revocation.of_guests_too,
        }
        revoked = transaction.execute(_REVOKE, parameters)
        if revoked:
            ids = [str(session.id) for session in revoked[:_IDS_RECORDED]]
            details = {"reason": reason, "number": len(revoked), "session_ids": ids}
            self.audit.record(transaction, AuditEventName.SESSION_ENDED, actor, user_id, **details)
            self.feed.publish_sessions(transaction, [session.id for session in revoked], reason)
            transaction.after_commit(lambda: self._report(user_id, reason, revoked))
        return len(revoked)

    def _report(self, user_id: int, reason: RevocationReason, revoked: Sequence[Row[Any]]) -> None:
        for label, number in Counter(session.revoked_reason for session in revoked).items():
            self.metrics.ended.labels(label).inc(number)
        if len(revoked) == 1:
            session_id, only_reason = str(revoked[0].id), revoked[0].revoked_reason
            log.info("session.ended", user_id=user_id, session_id=session_id, reason=only_reason)
        else:
            ids = [str(session.id) for session in revoked[:_IDS_RECORDED]]
            log.info("sessions.ended", user_id=user_id, number=len(revoked), reason=reason, session_ids=ids)
