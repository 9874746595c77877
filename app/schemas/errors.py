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
from app.schemas.oauth_errors import oauth_fields

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

RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "In seconds."}}
_CHALLENGE: Final = {"schema": {"type": "string"}, "description": "RFC 6750 §3."}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": _CHALLENGE},
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}


class Problem(BaseModel):
    loc: list[str | int]
    msg: str
    type: str


def status_of(error: type[ServiceError]) -> int:
    return next(status for family, status in STATUS.items() if issubclass(error, family))


def responses(*errors: type[ServiceError], oauth: bool = False) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the errors of an endpoint; 500 is always added.

    `oauth`: with the fields of RFC 6749 §5.2.
    """
    by_status: dict[int, list[type[ServiceError]]] = {}
    for error in sorted([*errors, InternalError], key=status_of):
        by_status.setdefault(status_of(error), []).append(error)
    return {status: _response(status, found, oauth=oauth) for status, found in by_status.items()}


def _response(status: int, errors: list[type[ServiceError]], *, oauth: bool) -> dict[str, Any]:
    examples = {error.code: {"value": _example(error, oauth=oauth)} for error in errors}
    content = {"schema": _body(status, [*examples], oauth=oauth), "examples": examples}
    response = {"description": _DESCRIPTIONS[status], "content": {"application/json": content}}
    return response | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


def _body(status: int, codes: list[str], *, oauth: bool) -> dict[str, Any]:
    """`code` is for programs, `detail` is for people."""
    problems = {"type": "array", "items": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
    properties: dict[str, Any] = {
        "detail": problems if status == status_of(InvalidInput) else {"type": "string"},
        "code": {"type": "string", "enum": codes},
    }
    if oauth:
        properties |= {"error": {"type": "string"}, "error_description": {"type": "string"}}
    return {"type": "object", "properties": properties, "required": [*properties]}


def _example(error: type[ServiceError], *, oauth: bool) -> dict[str, Any]:
    problem = {"loc": ["body", "email"], "msg": "Field required", "type": "missing"}
    if issubclass(error, PasswordTooCommon):
        problem = {"loc": ["body", "password"], "msg": error.message, "type": error.reason}
    detail = [problem] if issubclass(error, InvalidInput) else error.message
    ours = {"detail": detail, "code": error.code}
    return ours | oauth_fields(error, detail) if oauth else ours
