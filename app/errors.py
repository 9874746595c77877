"""All errors of the service; `http/error_handlers` turns them into HTTP responses.

ServiceError
├── InvalidInput            validation_error
│   └── PasswordTooShort
├── Unauthenticated
│   ├── InvalidCredentials  invalid_credentials
│   ├── NotAuthenticated    not_authenticated
│   └── TokenRefused
│       ├── InvalidToken         invalid_token
│       ├── TokenExpired         token_expired
│       ├── TokenRevoked         token_revoked
│       ├── InvalidRefreshToken  invalid_refresh_token
│       └── RefreshTokenReused   refresh_token_reused
├── Forbidden
│   └── CrossSiteRequest    cross_site_request
├── NotFound                not_found
├── MethodNotAllowed        method_not_allowed
├── Conflict
│   ├── EmailTaken          email_taken
│   └── LastAdmin           last_admin
├── PayloadTooLarge         payload_too_large
├── InternalError           internal_error
└── Unavailable             unavailable
    ├── HashingQueueFull
    ├── DatabaseUnavailable
    └── NotReady
"""

from typing import ClassVar


class ServiceError(Exception):
    """`code` is for programs and never changes; `message` is for people."""

    code: ClassVar[str]
    message: ClassVar[str]

    def __str__(self) -> str:
        return self.message


class InvalidInput(ServiceError):
    code = "validation_error"
    message = "The request is not valid"


class PasswordTooShort(InvalidInput):
    """`field` is the name of the password's field in the request."""

    def __init__(self, min_length: int, field: str) -> None:
        super().__init__(min_length, field)
        self.min_length = min_length
        self.field = field

    def __str__(self) -> str:
        return f"Password should have at least {self.min_length} characters"


class Unauthenticated(ServiceError):
    pass


class InvalidCredentials(Unauthenticated):
    code = "invalid_credentials"
    message = "Incorrect email or password"


class NotAuthenticated(Unauthenticated):
    code = "not_authenticated"
    message = "Not authenticated"


class TokenRefused(Unauthenticated):
    """A token was sent, but it is not valid."""


class InvalidToken(TokenRefused):
    code = "invalid_token"
    message = "Invalid access token"


class TokenExpired(TokenRefused):
    code = "token_expired"
    message = "Access token expired"


class TokenRevoked(TokenRefused):
    code = "token_revoked"
    message = "The session of this access token has ended"


class InvalidRefreshToken(TokenRefused):
    code = "invalid_refresh_token"
    message = "Invalid refresh token"


class RefreshTokenReused(TokenRefused):
    code = "refresh_token_reused"
    message = "Refresh token invalid or reused"


class Forbidden(ServiceError):
    code = "forbidden"
    message = "Not allowed"


class CrossSiteRequest(Forbidden):
    code = "cross_site_request"
    message = "Cookies from another site are not accepted; send a Bearer token"


class NotFound(ServiceError):
    code = "not_found"
    message = "Not found"


class MethodNotAllowed(ServiceError):
    code = "method_not_allowed"
    message = "Method not allowed"


class Conflict(ServiceError):
    pass


class EmailTaken(Conflict):
    code = "email_taken"
    message = "Email already registered"


class LastAdmin(Conflict):
    code = "last_admin"
    message = "The last active admin cannot be demoted, disabled or deleted"


class PayloadTooLarge(ServiceError):
    code = "payload_too_large"
    message = "Request body too large"


class InternalError(ServiceError):
    code = "internal_error"
    message = "Internal server error"


class Unavailable(ServiceError):
    """`retry_after` is in seconds."""

    code = "unavailable"
    message = "Temporarily unavailable, try again shortly"
    retry_after: ClassVar[int] = 1


class HashingQueueFull(Unavailable):
    retry_after = 5


class DatabaseUnavailable(Unavailable):
    """`reason` is for operators: the exception's class and SQLSTATE, without any data."""

    retry_after = 2

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotReady(Unavailable):
    """The database answers, but the service cannot use it. `reason` is for operators."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
