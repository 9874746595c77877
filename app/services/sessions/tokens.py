"""Issues and verifies access and refresh tokens."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from app.clock import Clock
from app.security.keys import TokenKeys
from app.security.tokens import (
    AccessClaims,
    Parties,
    RefreshClaims,
    decode_access,
    decode_refresh,
    encode_access,
    encode_refresh,
)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Lifetimes are in seconds from now."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


@dataclass(frozen=True, slots=True)
class SessionLifetime:
    """`idle` is the time limit between refreshes, `absolute` is the limit since the login."""

    idle: timedelta
    absolute: timedelta


@dataclass(frozen=True, slots=True)
class TokenService:
    keys: TokenKeys
    parties: Parties
    access_lifetime: timedelta
    clock: Clock

    def issue(self, refresh: RefreshClaims, role: str) -> TokenPair:
        """A new access token, and the refresh token, which is always the same for the same claims."""
        issued_at, lifetime = unix_seconds(self.clock()), int(self.access_lifetime.total_seconds())
        access = AccessClaims(
            user_id=refresh.user_id,
            role=role,
            session_id=refresh.session_id,
            token_id=str(uuid4()),
            issued_at=issued_at,
            expires_at=issued_at + lifetime,
        )
        return TokenPair(
            access_token=encode_access(access, self.parties, self.keys.shared[0]),
            expires_in=lifetime,
            refresh_token=encode_refresh(refresh, self.parties, self.keys.refresh[0]),
            refresh_expires_in=refresh.expires_at - issued_at,
        )

    def verify_access(self, token: str) -> AccessClaims:
        """Raises InvalidToken, or TokenExpired if a valid token has expired."""
        return decode_access(token, self.parties, self.keys.shared, self.clock().timestamp())

    def verify_refresh(self, token: str) -> RefreshClaims:
        """Raises InvalidRefreshToken if the token is not valid or has expired."""
        return decode_refresh(token, self.parties, self.keys.refresh, self.clock().timestamp())


def unix_seconds(moment: datetime) -> int:
    return int(moment.timestamp())
