"""Live answers about access tokens, for sibling services (RFC 7662)."""

from dataclasses import dataclass
from typing import NamedTuple

from app.errors import TokenRefused
from app.security.tokens import AccessClaims
from app.services.accounts.profile import ProfileService
from app.services.sessions.tokens import TokenService


class Introspection(NamedTuple):
    """The token's claims, and the user's role as it is now."""

    claims: AccessClaims
    role: str


@dataclass(frozen=True, slots=True)
class IntrospectionService:
    tokens: TokenService
    profile: ProfileService

    def introspect(self, token: str) -> Introspection | None:
        """None unless it is an access token of a live session and an active user."""
        try:
            claims = self.tokens.verify_patiently(token)
            account = self.profile.authenticate(claims.user_id, claims.session_id)
        except TokenRefused:
            return None
        return Introspection(claims, account.role)
