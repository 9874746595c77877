"""The token pair: what a login and a refresh answer with."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from app.security.keys import TokenKeys
from app.security.tokens import AccessClaims, RefreshClaims, encode_access, encode_refresh


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Lifetimes are in seconds from now."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """`idle` ends a session that is not refreshed, `session` ends every session."""

    access: timedelta
    idle: timedelta
    session: timedelta


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    keys: TokenKeys
    lifetimes: Lifetimes

    def issue(self, refresh: RefreshClaims, role: str, now: datetime) -> TokenPair:
        """A new access token beside the refresh token that `refresh` determines byte for byte."""
        issued_at, lifetime = unix_seconds(now), int(self.lifetimes.access.total_seconds())
        access = AccessClaims(
            user_id=refresh.user_id,
            role=role,
            session_id=refresh.session_id,
            token_id=str(uuid4()),
            issued_at=issued_at,
            expires_at=issued_at + lifetime,
        )
        return TokenPair(
            access_token=encode_access(access, self.keys),
            expires_in=lifetime,
            refresh_token=encode_refresh(refresh, self.keys),
            refresh_expires_in=refresh.expires_at - issued_at,
        )


def unix_seconds(moment: datetime) -> int:
    return int(moment.timestamp())
