"""What `/token`, `/refresh` and `/logout` take: forms as RFC 6749 has them, and JSON."""

from collections import Counter
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from app.errors import NotAuthenticated
from app.http.bodies import json_body, utf8_form, validated
from app.http.cookies import REFRESH_COOKIE
from app.http.dependencies import cookies_of
from app.http.openapi import one_body_of
from app.http.routing import hear_when_client_leaves
from app.schemas.sessions import LoginForm, RefreshForm, RefreshRequest

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")

# The forms of RFC 6749 §6 are taken too, and described in words: for one of several forms Swagger UI has no
# fields, and for one of several media types orval's clients send none.
GRANT_BODY: Final = one_body_of({_FORMS[0]: LoginForm}, required=True)
REFRESH_BODY: Final = one_body_of({"application/json": RefreshRequest})


async def _grant(request: Request) -> LoginForm | RefreshForm:
    """Raises RequestValidationError, HTTPException, PayloadTooLarge."""
    hear_when_client_leaves(request)
    fields = await _fields(request)
    grant = fields.get("grant_type", "password")
    if grant == "refresh_token":
        return validated(RefreshForm.model_validate, fields, "body")
    if grant != "password":
        raise _problem("grant_type", "Input should be 'password' or 'refresh_token'", "literal_error")
    return validated(LoginForm.model_validate, fields, "body")


Grant = Annotated[LoginForm | RefreshForm, Depends(_grant)]


class SentRefreshToken:
    """The refresh token of a body, of JSON or a form; `is_missing` if the body should have had one."""

    def __init__(self, token: str | None, *, is_missing: bool = False) -> None:
        self.token = token
        self._is_missing = is_missing

    @classmethod
    async def of(cls, request: Request) -> "SentRefreshToken":
        """Raises RequestValidationError, HTTPException, PayloadTooLarge."""
        if request.headers.get("content-type", "").lower().startswith(_FORMS):
            fields = await _fields(request)
            if "refresh_token" not in fields:
                return cls(None, is_missing=bool(fields))
            return cls(validated(RefreshForm.model_validate, fields, "body").refresh_token.get_secret_value())
        body = await json_body(request, RefreshRequest)
        token = body.refresh_token.get_secret_value() if body and body.refresh_token else None
        return cls(token or None, is_missing=body is not None and not token)

    def or_cookie(self, request: Request) -> str | None:
        """Raises CrossSiteRequest."""
        return cookies_of(request).read(REFRESH_COOKIE) if self.token is None else self.token

    def required(self, request: Request) -> str:
        """Raises NotAuthenticated, CrossSiteRequest, RequestValidationError."""
        if token := self.or_cookie(request):
            return token
        if self._is_missing:
            raise _problem("refresh_token", "Field required", "missing")
        raise NotAuthenticated


async def _refresh_token(request: Request) -> str:
    return (await SentRefreshToken.of(request)).required(request)


PresentedRefreshToken = Annotated[str, Depends(_refresh_token)]


async def _fields(request: Request) -> dict[str, Any]:
    """Without the empty ones, which a form has for what was not filled in.

    Raises RequestValidationError, also for one of ours that is there twice (RFC 6749 §3.2), HTTPException,
    PayloadTooLarge.
    """
    async with (await utf8_form(request)).form() as form:
        given = [(name, value) for name, value in form.multi_items() if value]
    counts = Counter(name for name, _ in given)
    for name in LoginForm.model_fields | RefreshForm.model_fields:
        if counts[name] > 1:
            raise RequestValidationError(
                [{"loc": ("body",), "msg": f"{name} is there twice", "type": "repeated"}]
            )
    return dict(given)


def _problem(field: str, message: str, kind: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", field), "msg": message, "type": kind}])
