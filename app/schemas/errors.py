"""The body and the HTTP status of every error."""

from typing import Any, Final

from pydantic import BaseModel

from app.errors import (
    ClientLeft,
    Conflict,
    CursorExpired,
    Forbidden,
    HeadersTooLarge,
    InternalError,
    InvalidInput,
    InvalidToken,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PasswordTooCommon,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
    TokenExpired,
    TokenRevoked,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

STATUS: Final[dict[type[ServiceError], int]] = {
    InvalidInput: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    Conflict: 409,
    CursorExpired: 410,
    PayloadTooLarge: 413,
    TooManyRequests: 429,
    HeadersTooLarge: 431,
    ClientLeft: 499,  # of no RFC; proxies log it so
    InternalError: 500,
    Unavailable: 503,
}
SIGNED_IN: Final = (NotAuthenticated, InvalidToken, TokenExpired, TokenRevoked, Unavailable)
"""The errors of every endpoint that requires an access token."""

_DESCRIPTIONS: Final = {
    400: "The request is not valid",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    408: "The request did not come in time; the connection is closed",
    409: "Conflict",
    410: "Gone",
    413: "The body is over 64 KiB",
    429: "Too many attempts; try again after `Retry-After` seconds. Without the header, no wait helps",
    431: "The head is over 32 KiB or 100 headers; the connection is closed",
    500: "Internal server error",
    503: "Try again after `Retry-After` seconds",
}

_RETRY: Final = (429, 503)


class Problem(BaseModel):
    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(BaseModel):
    """`code` is for programs, `detail` is for people. `detail` is a list where the status is 400."""

    detail: str | list[Problem]
    code: str


def status_of(error: type[ServiceError]) -> int:
    return next(status for family, status in STATUS.items() if issubclass(error, family))


def responses(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the errors of an endpoint; 500 is always added."""
    documented: dict[int | str, dict[str, Any]] = {}
    known: list[type[ServiceError]] = [*errors, InternalError]
    for error in sorted(known, key=status_of):
        status = status_of(error)
        entry = documented.setdefault(
            status,
            {
                "model": ErrorBody,
                "description": _DESCRIPTIONS[status],
                "content": {"application/json": {"examples": {}}},
            },
        )
        if status in _RETRY:
            entry["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "In seconds."}}
        entry["content"]["application/json"]["examples"][error.code] = {"value": _example(error)}
    return documented


def _example(error: type[ServiceError]) -> dict[str, Any]:
    if not issubclass(error, InvalidInput):
        return {"detail": error.message, "code": error.code}
    problem = {"loc": ["body", "email"], "msg": "Field required", "type": "missing"}
    if issubclass(error, PasswordTooCommon):
        problem = {"loc": ["body", "password"], "msg": error.message, "type": error.reason}
    return {"detail": [problem], "code": error.code}
