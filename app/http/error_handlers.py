"""Turns errors into HTTP responses."""

from asyncio import CancelledError
from collections.abc import Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.database.failures import describe
from app.errors import (
    CrossSiteRequest,
    DatabaseUnavailable,
    Forbidden,
    InternalError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    PasswordRefused,
    PayloadTooLarge,
    ServiceError,
    TokenRefused,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from app.http.dependencies import cookies_of
from app.http.routing import path_of
from app.schemas.errors import status_of
from app.schemas.oauth_errors import oauth_fields
from app.telemetry.repetition import Repetition

MAX_ERROR_BYTES: Final = 2048
# A character has up to 6 bytes in JSON, so that one problem always fits.
_MAX_DEPTH: Final = 4
_MAX_NAME: Final = 32
_MAX_MESSAGE: Final = 160
_OUTAGE_SECONDS: Final = 10

_TOKEN_ENDPOINTS: Final = ("/api/v1/token", "/api/v1/refresh")

log = structlog.get_logger(__name__)

# HTTP errors that Starlette and FastAPI raise; any other status becomes InternalError.
_BY_STATUS = {
    status_of(error): error for error in (InvalidInput, NotFound, MethodNotAllowed, PayloadTooLarge)
}


def install_error_handlers(app: FastAPI) -> None:
    app.state.database_failures = Repetition(_OUTAGE_SECONDS)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    if isinstance(error, DatabaseUnavailable):
        repetition: Repetition = request.app.state.database_failures
        if number := repetition.due(error.reason):
            log.warning("database.unavailable", reason=error.reason, number=number, said=describe(error))
    if isinstance(error, CrossSiteRequest):
        log.warning("request.cross_site", **error.facts)
    return _respond(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _respond(request, InvalidInput(), detail=_problems_in(error.errors()))


async def _http_exception(request: Request, error: Exception) -> Response:
    """Raised by Starlette and FastAPI: unknown route, method not allowed, or malformed body."""
    assert isinstance(error, HTTPException)
    known = _BY_STATUS.get(error.status_code, InternalError)()
    detail: Any = None
    if isinstance(known, InvalidInput):
        detail = _problems_in([{"loc": ["body"], "msg": error.detail, "type": "body_invalid"}])
    return _respond(request, known, detail=detail, headers=error.headers)


async def respond_to(request: Request, error: BaseException) -> Response:
    """Calls the handler for an error of an endpoint; re-raises SystemExit and the like."""
    if isinstance(error, ServiceError):
        return await _service_error(request, error)
    if isinstance(error, RequestValidationError):
        return await _validation_error(request, error)
    if isinstance(error, HTTPException):
        return await _http_exception(request, error)
    if isinstance(error, Exception | CancelledError):
        return await respond_unforeseen(request, error)
    raise error


async def respond_unforeseen(request: Request, error: Exception | CancelledError) -> Response:
    """Logs the error; the response contains no details."""
    if isinstance(error, CancelledError):  # the grace period of a shutdown has ended
        log.warning("request.cut_short")
        return _respond(request, Unavailable(), headers={"Connection": "close"})
    log.error("request.failed", exc_info=error)
    return _respond(request, InternalError())


def _problems_in(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as fit into `MAX_ERROR_BYTES`; `loc` and `msg` may repeat what was sent, at any length.

    Omits `input` and `ctx`, because they can contain passwords.
    """
    problems, size = [], len('{"detail":[],"code":"validation_error"}')
    for each in found:
        loc = [part if isinstance(part, int) else _cut(part, _MAX_NAME) for part in each["loc"][:_MAX_DEPTH]]
        message = each["msg"].removeprefix("Value error, ")  # pydantic's
        problem = {"loc": loc, "msg": _cut(message, _MAX_MESSAGE), "type": each["type"]}
        size += len(JSONResponse(problem).body) + 1
        if size > MAX_ERROR_BYTES:
            break
        problems.append(problem)
    return problems


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _respond(
    request: Request,
    error: ServiceError,
    *,
    detail: Any = None,
    headers: Any = None,
) -> Response:
    if isinstance(error, PasswordRefused):
        detail = [{"loc": ["body", error.field], "msg": str(error), "type": error.reason}]
    elif isinstance(error, InvalidInput) and detail is None:
        detail = [{"loc": [], "msg": str(error), "type": error.code}]
    detail = str(error) if detail is None else detail
    of_oauth = oauth_fields(type(error), detail) if path_of(request.scope) in _TOKEN_ENDPOINTS else {}
    response = JSONResponse(
        {"detail": detail, "code": error.code, **of_oauth},
        status_code=status_of(type(error)),
        headers={**(headers or {}), **_headers(error)},
    )
    if getattr(request.state, "clear_auth_cookies", False):
        cookies_of(request).clear(response)
    return response


def _headers(error: ServiceError) -> dict[str, str]:
    if isinstance(error, Unavailable | TooManyRequests) and error.retry_after is not None:
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, TokenRefused):
        return {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # RFC 6750 §3
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if type(error) is Forbidden:  # its kinds are not about what the token allows
        return {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    return {}
