"""Refresh token rotation and detection of reused tokens (RFC 9700 §4.14.2)."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NoReturn
from uuid import UUID

import structlog
from sqlalchemy import DateTime, Interval, Row, bindparam, func, select, update

from app.clock import Clock
from app.database.prepared import Prepared
from app.database.transactions import Database
from app.errors import DatabaseUnavailable, InvalidRefreshToken, RefreshTokenReused, WritesWait
from app.models import LoginSession, User
from app.models.sessions import is_live
from app.security.tokens import RefreshClaims
from app.services.operations.audit import Client
from app.services.sessions.revocation import RevocationService
from app.services.sessions.seen_live import SeenLive
from app.services.sessions.tokens import Holder, SessionLifetime, TokenPair, TokenService, unix_seconds
from app.telemetry.metrics import SessionMetrics

log = structlog.get_logger(__name__)

REPLAY_WINDOW: Final = timedelta(seconds=60)
CLOCK_SKEW: Final = timedelta(seconds=2)

Verdict = Literal["current", "replayed", "raced", "reuse_detected", "revoked", "expired"]

_HOLDER: Final = (User.role, User.email, User.email_verified_at.is_not(None).label("email_verified"))
_ROTATE: Final = Prepared(
    update(LoginSession)
    .where(
        LoginSession.id == bindparam("session_id"),
        LoginSession.token_id == bindparam("presented"),
        *is_live(),
        User.id == LoginSession.user_id,
        User.is_active,
    )
    .values(
        token_id=func.gen_random_uuid(),
        previous_token_id=LoginSession.token_id,
        rotated_at=bindparam("now"),
        expires_at=func.least(
            bindparam("idle_until", type_=DateTime(timezone=True)),
            LoginSession.created_at + bindparam("session_lifetime", type_=Interval()),
        ),
        idempotency_key_hash=bindparam("key_hash"),
        user_agent=bindparam("user_agent"),
        ip_address=bindparam("ip_address"),
    )
    .returning(LoginSession.token_id, LoginSession.rotated_at, LoginSession.expires_at, *_HOLDER)
)
_LOOK_UP = (
    select(
        LoginSession.token_id,
        LoginSession.previous_token_id,
        LoginSession.rotated_at,
        LoginSession.expires_at,
        LoginSession.revoked_at,
        LoginSession.idempotency_key_hash,
        User.is_active,
        *_HOLDER,
    )
    .join(User, User.id == LoginSession.user_id)
    .where(LoginSession.id == bindparam("session_id"))
)


@dataclass(frozen=True, slots=True)
class RotationService:
    db: Database
    revocation: RevocationService
    tokens: TokenService
    lifetime: SessionLifetime
    reuse_leeway: timedelta
    clock: Clock
    metrics: SessionMetrics
    seen_live: SeenLive = field(default_factory=SeenLive)

    def refresh(self, token: str, idempotency_key: str | None, client: Client) -> TokenPair:
        """Raises InvalidRefreshToken, RefreshTokenReused."""
        now = self.clock()
        try:
            claims = self.tokens.verify_refresh(token)
        except InvalidRefreshToken:
            self.metrics.refresh_outcomes.labels("invalid").inc()
            log.info("refresh.refused", outcome="invalid")
            raise
        self.tokens.check_ready()
        key_hash = _hash_key(idempotency_key)
        try:
            rows = self.db.execute(_ROTATE, self._parameters(claims, key_hash, client, now))
        except WritesWait:
            self._note_if_live(claims)
            raise
        if rows:
            self.metrics.refresh_outcomes.labels("rotated").inc()
            self.metrics.refreshes.labels("refresh").inc()
            log.info("session.rotated", user_id=claims.user_id, session_id=str(claims.session_id))
            return self._pair(claims.user_id, claims.session_id, rows[0])
        return self._replay(claims, key_hash, client, now)

    def _note_if_live(self, claims: RefreshClaims) -> None:
        """What waits for a standby may be seen long after `rotated_at`, but not before it was seen live."""
        seen_at = self.clock()
        with suppress(DatabaseUnavailable):
            if self._judge(claims, None, seen_at)[0] == "current":
                self.seen_live.note(claims.token_id, seen_at)

    def _parameters(
        self, claims: RefreshClaims, key_hash: str | None, client: Client, now: datetime
    ) -> dict[str, Any]:
        return {
            "session_id": claims.session_id,
            "presented": claims.token_id,
            "now": now,
            "idle_until": now + self.lifetime.idle,
            "session_lifetime": self.lifetime.absolute,
            "key_hash": key_hash,
            "user_agent": client.user_agent,
            "ip_address": client.ip_address,
        }

    def log_out_by_refresh_token(self, token: str, client: Client, *, everywhere: bool) -> None:
        """For clients without a good access token. Raises InvalidRefreshToken, RefreshTokenReused."""
        claims = self.tokens.verify_refresh(token)
        verdict, _ = self._judge(claims, None, self.clock())
        if verdict not in ("current", "raced"):
            self._refuse(verdict, claims, client)
        self.revocation.log_out(claims.user_id, claims.session_id, client, everywhere=everywhere)

    def _replay(
        self, claims: RefreshClaims, key_hash: str | None, client: Client, now: datetime
    ) -> TokenPair:
        """Return the pair again if its response was lost. Raises InvalidRefreshToken, RefreshTokenReused."""
        verdict, row = self._judge(claims, key_hash, now)
        self.metrics.refresh_outcomes.labels("raced" if verdict == "current" else verdict).inc()
        if verdict != "replayed" or row is None:
            self._refuse(verdict, claims, client)
        self.metrics.refreshes.labels("refresh").inc()
        log.info("session.replayed", user_id=claims.user_id, session_id=str(claims.session_id))
        return self._pair(claims.user_id, claims.session_id, row)

    def _judge(
        self, claims: RefreshClaims, key_hash: str | None, now: datetime
    ) -> tuple[Verdict, Row[Any] | None]:
        for row in self.db.execute(_LOOK_UP, {"session_id": claims.session_id}):
            return self._verdict(row, claims.token_id, key_hash, now), row
        return "revoked", None

    def _verdict(self, row: Row[Any], token_id: UUID, key_hash: str | None, now: datetime) -> Verdict:
        if row.revoked_at is not None or not row.is_active:
            return "revoked"
        if row.expires_at <= now:
            return "expired"
        if token_id == row.token_id:
            return "current"
        if token_id != row.previous_token_id:
            return "reuse_detected"
        age, leeway = now - max(row.rotated_at, self.seen_live.at(token_id)), self.reuse_leeway
        was_just_used = age >= -CLOCK_SKEW  # a clock that was further ahead is no leeway
        same_key = key_hash is not None and key_hash == row.idempotency_key_hash
        if same_key and was_just_used and age <= REPLAY_WINDOW:
            return "replayed"
        return "raced" if leeway and was_just_used and age <= leeway else "reuse_detected"

    def _refuse(self, verdict: Verdict, claims: RefreshClaims, client: Client) -> NoReturn:
        log.info(
            "refresh.refused", outcome=verdict, user_id=claims.user_id, session_id=str(claims.session_id)
        )
        if verdict == "expired":
            raise InvalidRefreshToken
        if verdict == "reuse_detected":
            self.revocation.revoke_reused(claims.session_id, claims.user_id, client)
        raise RefreshTokenReused

    def _pair(self, user_id: int, session_id: UUID, row: Row[Any]) -> TokenPair:
        """Always contains the same refresh token, byte for byte, for the same `row`."""
        began, ends = unix_seconds(row.rotated_at), unix_seconds(row.expires_at)
        refresh = RefreshClaims(user_id, session_id, row.token_id, began, ends)
        return self.tokens.issue(refresh, Holder(row.role, row.email, row.email_verified))


def _hash_key(idempotency_key: str | None) -> str | None:
    return hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key else None
