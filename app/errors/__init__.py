"""All errors of the service; `http/error_handlers` turns them into HTTP responses.

ServiceError
├── InvalidInput            validation_error
│   ├── PasswordRefused
│   │   ├── PasswordTooShort
│   │   └── PasswordTooCommon    password_too_common
│   ├── InvalidLink             invalid_link
│   └── InvalidCursor
├── Unauthenticated
│   ├── InvalidCredentials  invalid_credentials
│   ├── NotAuthenticated    not_authenticated
│   └── TokenRefused
│       ├── InvalidToken         invalid_token
│       │   └── UnknownKey
│       ├── TokenExpired         token_expired
│       ├── TokenRevoked         token_revoked
│       ├── InvalidRefreshToken  invalid_refresh_token
│       └── RefreshTokenReused   refresh_token_reused
├── Forbidden
│   ├── EmailNotVerified    email_not_verified
│   └── CrossSiteRequest    cross_site_request
├── NotFound                not_found
├── MethodNotAllowed        method_not_allowed
├── Conflict
│   ├── EmailTaken          email_taken
│   └── LastAdmin           last_admin
├── RequestTimeout          request_timeout
├── PayloadTooLarge         payload_too_large
├── CursorExpired           cursor_expired
├── TooManyRequests         too_many_requests
│   └── TooManyFailures
├── ClientLeft              client_left
├── HeadersTooLarge         headers_too_large
├── InternalError           internal_error
│   └── UnusableMailTemplate
└── Unavailable             unavailable
    ├── HashingQueueFull
    ├── DatabaseUnavailable
    │   └── WritesWait
    ├── NotReady
    └── MailNotConfigured   mail_not_configured
"""

from app.errors.accounts import (
    EmailTaken,
    InvalidLink,
    LastAdmin,
    PasswordRefused,
    PasswordTooCommon,
    PasswordTooShort,
)
from app.errors.authentication import (
    CrossSiteRequest,
    EmailNotVerified,
    InvalidCredentials,
    InvalidRefreshToken,
    InvalidToken,
    NotAuthenticated,
    RefreshTokenReused,
    TokenExpired,
    TokenRefused,
    TokenRevoked,
    TooManyFailures,
    UnknownKey,
)
from app.errors.availability import (
    DatabaseUnavailable,
    HashingQueueFull,
    MailNotConfigured,
    NotReady,
    WritesWait,
)
from app.errors.delivery import CursorExpired, InvalidCursor, UnusableMailTemplate
from app.errors.families import (
    ClientLeft,
    Conflict,
    Forbidden,
    HeadersTooLarge,
    InternalError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

__all__ = [
    "ClientLeft",
    "Conflict",
    "CrossSiteRequest",
    "CursorExpired",
    "DatabaseUnavailable",
    "EmailNotVerified",
    "EmailTaken",
    "Forbidden",
    "HashingQueueFull",
    "HeadersTooLarge",
    "InternalError",
    "InvalidCredentials",
    "InvalidCursor",
    "InvalidInput",
    "InvalidLink",
    "InvalidRefreshToken",
    "InvalidToken",
    "LastAdmin",
    "MailNotConfigured",
    "MethodNotAllowed",
    "NotAuthenticated",
    "NotFound",
    "NotReady",
    "PasswordRefused",
    "PasswordTooCommon",
    "PasswordTooShort",
    "PayloadTooLarge",
    "RefreshTokenReused",
    "RequestTimeout",
    "ServiceError",
    "TokenExpired",
    "TokenRefused",
    "TokenRevoked",
    "TooManyFailures",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UnknownKey",
    "UnusableMailTemplate",
    "WritesWait",
]
