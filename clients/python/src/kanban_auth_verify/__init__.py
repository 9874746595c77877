"""Verifies access tokens of the Kanban Auth Service.

    verifier = Verifier("https://auth.example.com", service_token="kas_...")
    claims = verifier.verify(token)

`AsyncVerifier` does the same for asyncio, `kanban_auth_verify.fastapi` has a dependency, and
`kanban_auth_verify.testing` a service that exists only in memory, for tests.
"""

from kanban_auth_verify.claims import LEEWAY_SECONDS, AccessClaims
from kanban_auth_verify.clock import Clock
from kanban_auth_verify.errors import (
    AuthError,
    Forbidden,
    InvalidToken,
    NotAuthenticated,
    TokenExpired,
    TokenRefused,
    TokenRevoked,
    Unavailable,
)
from kanban_auth_verify.verifier import AsyncVerifier, Verifier

__all__ = [
    "LEEWAY_SECONDS",
    "AccessClaims",
    "AsyncVerifier",
    "AuthError",
    "Clock",
    "Forbidden",
    "InvalidToken",
    "NotAuthenticated",
    "TokenExpired",
    "TokenRefused",
    "TokenRevoked",
    "Unavailable",
    "Verifier",
]
