"""What a verifier can answer instead of claims, with the codes and messages of the service.

AuthError
├── NotAuthenticated      401 not_authenticated
├── TokenRefused          401
│   ├── InvalidToken          invalid_token
│   ├── TokenExpired          token_expired
│   └── TokenRevoked          token_revoked
├── Forbidden             403 forbidden
└── Unavailable           503 unavailable
"""

from typing import ClassVar


class AuthError(Exception):
    """`code`, `message` and `status` may be shown to anybody; `reason` is for the log."""

    status: ClassVar[int]
    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"{self.message}: {reason}" if reason else self.message)
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        """Of the HTTP response (RFC 6750 §3)."""
        return {}

    @property
    def body(self) -> dict[str, str]:
        """Of the HTTP response, as the service's own."""
        return {"detail": self.message, "code": self.code}


class NotAuthenticated(AuthError):
    """No token was sent."""

    status = 401
    code = "not_authenticated"
    message = "Not authenticated"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class TokenRefused(AuthError):
    """A token was sent, but it is not valid."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class InvalidToken(TokenRefused):
    code = "invalid_token"
    message = "Invalid access token"


class TokenExpired(TokenRefused):
    """It has run out, or its role has changed: a refresh gives another one."""

    code = "token_expired"
    message = "Access token expired"


class TokenRevoked(TokenRefused):
    """A refresh would be refused too: the session has ended, or the user is disabled or deleted."""

    code = "token_revoked"
    message = "The session of this access token has ended"


class Forbidden(AuthError):
    """The role does not allow it."""

    status = 403
    code = "forbidden"
    message = "Not allowed"


class Unavailable(AuthError):
    """The token may be good, but nobody can say so now: no key was ever fetched, or the feed is silent."""

    status = 503
    code = "unavailable"
    message = "Temporarily unavailable, try again shortly"

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}
