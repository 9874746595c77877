from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from app.errors import (
    CrossSiteRequest,
    EmailNotVerified,
    InvalidCredentials,
    InvalidInput,
    InvalidRefreshToken,
    InvalidToken,
    NotAuthenticated,
    PayloadTooLarge,
    RefreshTokenReused,
    TokenExpired,
    TokenRevoked,
    TooManyRequests,
    Unavailable,
)
from app.http.authentication import (
    CookiesOfEarlierLogin,
    IdempotencyKey,
    LogoutCredential,
    RefreshTokenCredential,
)
from app.http.dependencies import (
    AuthCookiesDep,
    CurrentClient,
    LoginServiceDep,
    RevocationServiceDep,
    RotationServiceDep,
    cookies_of,
)
from app.http.grants import GRANT_BODY, REFRESH_BODY, Grant, PresentedRefreshToken
from app.http.openapi import REFRESH_COOKIE_SCHEME, SET_COOKIE
from app.http.routing import Route
from app.http.token_response import token_response
from app.schemas.errors import responses
from app.schemas.sessions import RefreshForm, TokenPairOut

router = APIRouter(prefix="/api/v1", tags=["sessions"], route_class=Route)


class ClearsCookies(Route):
    """Clears the cookies for every response status."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def clearing(request: Request) -> Response:
            request.state.clear_auth_cookies = True  # the error handlers read this
            response = await handler(request)
            cookies_of(request).clear(response)
            return response

        return clearing


@router.post(
    "/token",
    summary="Log in",
    response_model=TokenPairOut,
    openapi_extra=GRANT_BODY,
    responses={
        200: {"headers": SET_COOKIE},
        **responses(
            InvalidInput,
            InvalidCredentials,
            InvalidRefreshToken,
            EmailNotVerified,
            RefreshTokenReused,
            PayloadTooLarge,
            TooManyRequests,
            Unavailable,
            oauth=True,
        ),
    },
)
def create_token(
    form: Grant,
    login: LoginServiceDep,
    rotation: RotationServiceDep,
    client: CurrentClient,
    cookies: AuthCookiesDep,
    earlier: CookiesOfEarlierLogin,
    idempotency_key: IdempotencyKey,
) -> Response:
    """Opens a session and answers with its token pair, in the body and as HttpOnly cookies.

    Another site's request gets no cookies, so that nobody can be signed in to somebody else's account.

    It replaces the session of the browser's refresh token, and one user has at most `SESSIONS_PER_USER`.

    With `grant_type=refresh_token` it does what `/api/v1/refresh` does.
    """
    if isinstance(form, RefreshForm):
        token = form.refresh_token.get_secret_value()
        return token_response(rotation.refresh(token, idempotency_key, client), cookies)
    password = form.password.get_secret_value()
    logged_in = login.log_in(form.username, password, client, earlier)
    response = token_response(logged_in.pair, cookies)
    cookies.set_device(response, logged_in.device)
    return response


@router.post(
    "/refresh",
    summary="Refresh",
    response_model=TokenPairOut,
    openapi_extra=REFRESH_BODY,
    responses={
        200: {"headers": SET_COOKIE},
        **responses(
            InvalidInput,
            NotAuthenticated,
            InvalidRefreshToken,
            RefreshTokenReused,
            CrossSiteRequest,
            PayloadTooLarge,
            Unavailable,
            oauth=True,
        ),
    },
)
def refresh_token(
    token: PresentedRefreshToken,
    rotation: RotationServiceDep,
    client: CurrentClient,
    cookies: AuthCookiesDep,
    idempotency_key: IdempotencyKey,
) -> Response:
    """Exchanges a refresh token for a new pair. Each refresh token can be used once.

    Without one in the body, the cookie is taken. A form as in RFC 6749 §6 is taken as well: its fields are
    `grant_type=refresh_token` and `refresh_token`.
    """
    return token_response(rotation.refresh(token, idempotency_key, client), cookies)


def log_out(
    credential: LogoutCredential,
    revocation: RevocationServiceDep,
    rotation: RotationServiceDep,
    client: CurrentClient,
    scope: Annotated[Literal["all", "session"], Query()] = "all",
) -> None:
    """Ends all sessions of the user, or only this one.

    Without a good access token, a refresh token is accepted instead.
    """
    everywhere = scope == "all"
    if isinstance(credential, RefreshTokenCredential):
        rotation.log_out_by_refresh_token(credential, client, everywhere=everywhere)
    else:
        revocation.log_out(credential.user_id, credential.session_id, client, everywhere=everywhere)


router.add_api_route(
    "/logout",
    log_out,
    methods=["POST"],
    status_code=204,
    summary="Log out",
    route_class_override=ClearsCookies,
    openapi_extra=REFRESH_BODY | {"security": [REFRESH_COOKIE_SCHEME]},
    responses={
        204: {"headers": SET_COOKIE},
        **responses(
            InvalidInput,
            NotAuthenticated,
            InvalidToken,
            TokenExpired,
            TokenRevoked,
            InvalidRefreshToken,
            RefreshTokenReused,
            CrossSiteRequest,
            PayloadTooLarge,
            Unavailable,
        ),
    },
)
