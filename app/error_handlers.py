"""The one place where errors meet HTTP."""

from asyncio import CancelledError
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.dependencies import services_of
from app.errors import (
    DatabaseUnavailable,
    InternalError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    PasswordTooShort,
    PayloadTooLarge,
    ServiceError,
    TokenRefused,
    Unauthenticated,
    Unavailable,
)
from app.schemas.cookies import clear_auth_cookies
from app.schemas.errors import status_of

log = structlog.get_logger(__name__)

# What Starlette and FastAPI raise themselves; anything else of theirs is unforeseen.
_BY_STATUS = {
    status_of(error): error for error in (InvalidInput, NotFound, MethodNotAllowed, PayloadTooLarge)
}


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    if isinstance(error, DatabaseUnavailable):
        log.warning("database.unavailable", reason=error.reason)
    return _respond(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    """Without `input` and `ctx`, which echo passwords."""
    assert isinstance(error, RequestValidationError)
    problems = [{key: problem[key] for key in ("loc", "msg", "type")} for problem in error.errors()]
    return _respond(request, InvalidInput(), detail=problems)


async def _http_exception(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise themselves: no such route, no such method, an unreadable body."""
    assert isinstance(error, HTTPException)
    known = _BY_STATUS.get(error.status_code, InternalError)()
    detail: Any = None
    if isinstance(known, InvalidInput):
        detail = [{"loc": ["body"], "msg": error.detail, "type": "body_invalid"}]
    return _respond(request, known, detail=detail, headers=error.headers)


async def respond_unforeseen(request: Request, error: Exception | CancelledError) -> Response:
    """Logs it; nothing of it reaches the client."""
    if isinstance(error, CancelledError):  # what was not done when a shutdown's grace period ended
        log.warning("request.cut_short")
        return _respond(request, Unavailable())
    log.error("request.failed", exc_info=error)
    return _respond(request, InternalError())


def _respond(
    request: Request,
    error: ServiceError,
    *,
    detail: Any = None,
    headers: Any = None,
) -> Response:
    if isinstance(error, PasswordTooShort):
        loc = ["body", error.field]
        detail = [{"loc": loc, "msg": str(error), "type": "string_too_short"}]
    response = JSONResponse(
        {"detail": str(error) if detail is None else detail, "code": error.code},
        status_code=status_of(type(error)),
        headers={**(headers or {}), **_headers(error)},
    )
    if getattr(request.state, "clear_auth_cookies", False):
        clear_auth_cookies(response, services_of(request).settings)
    return response


def _headers(error: ServiceError) -> dict[str, str]:
    if isinstance(error, Unavailable):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, TokenRefused):
        return {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # RFC 6750 §3
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    return {}
