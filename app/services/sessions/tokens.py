"""Issues and verifies access and refresh tokens."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from app.clock import Clock
from app.errors import TokenExpired, UnknownKey
from app.security.keys import TokenKeys
from app.security.tokens import (
    AccessClaims,
    Parties,
    RefreshClaims,
    decode_access,
    decode_refresh,
    encode_access,
    encode_refresh,
    kid_of,
)
from app.services.keys.signing import SigningKeys
from app.telemetry.metrics import KeyMetrics


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Lifetimes are in seconds from now."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


class Holder(NamedTuple):
    """What an access token says of its user, besides the id."""

    role: str
    email: str
    email_verified: bool


@dataclass(frozen=True, slots=True)
class SessionLifetime:
    """`idle` is the time limit between refreshes, `absolute` is the limit since the login."""

    idle: timedelta
    absolute: timedelta


@dataclass(frozen=True, slots=True)
class TokenService:
    secrets: TokenKeys
    signing: SigningKeys
    parties: Parties
    access_lifetime: timedelta
    with_email: bool
    clock: Clock
    metrics: KeyMetrics

    def check_ready(self) -> None:
        """Before what is done cannot be undone. Raises NotReady if no access token can be signed."""
        self.signing.check()

    def issue(self, refresh: RefreshClaims, holder: Holder) -> TokenPair:
        """A new access token, and the refresh token, which is always the same for the same claims.

        Raises NotReady.
        """
        issued_at, lifetime = unix_seconds(self.clock()), int(self.access_lifetime.total_seconds())
        access = AccessClaims(
            user_id=refresh.user_id,
            role=holder.role,
            session_id=refresh.session_id,
            token_id=str(uuid4()),
            issued_at=issued_at,
            expires_at=issued_at + lifetime,
            email=holder.email if self.with_email else None,
            email_verified=holder.email_verified,
        )
        signer = self.secrets.shared[0] if self.signing.algorithm is None else self.signing.signer()
        self.metrics.issued.labels(signer.algorithm).inc()
        return TokenPair(
            access_token=encode_access(access, self.parties, signer),
            expires_in=lifetime,
            refresh_token=encode_refresh(refresh, self.parties, self.secrets.refresh[0]),
            refresh_expires_in=refresh.expires_at - issued_at,
        )

    def verify_access(self, token: str) -> AccessClaims:
        """Raises InvalidToken, UnknownKey, or TokenExpired if the token or its key is no longer good.

        A token of a key that was revoked counts as expired: the session lives, and a refresh helps.
        """
        now = self.clock()
        kid = kid_of(token)
        if kid is None:
            claims = decode_access(token, self.parties, self.secrets.shared, now.timestamp())
            self.metrics.accepted.labels("shared_secret").inc()
            return claims
        if (key := self.signing.find(kid)) is None:
            raise UnknownKey
        claims = decode_access(token, self.parties, (key.public,), now.timestamp())
        state = key.life.state(now)
        if not state.is_trusted:
            raise TokenExpired
        self.metrics.accepted.labels(state).inc()
        return claims

    def verify_patiently(self, token: str) -> AccessClaims:
        """Like `verify_access`, but looks for a key that is not known. Also raises DatabaseUnavailable."""
        try:
            return self.verify_access(token)
        except UnknownKey:
            if self.signing.may_look_again():
                self.signing.look_again()
            return self.verify_access(token)

    def verify_refresh(self, token: str) -> RefreshClaims:
        """Raises InvalidRefreshToken if the token is not valid or has expired."""
        return decode_refresh(token, self.parties, self.secrets.refresh, self.clock().timestamp())


def unix_seconds(moment: datetime) -> int:
    return int(moment.timestamp())
