from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.routing import APIRoute

from app.config import Settings
from app.dependencies import (
    IdempotencyKey,
    PresentedRefreshToken,
    WhoLogsOut,
    client_of,
    is_cross_site,
    services_of,
)
from app.errors import (
    CrossSiteRequest,
    InvalidCredentials,
    InvalidInput,
    InvalidRefreshToken,
    InvalidToken,
    NotAuthenticated,
    PayloadTooLarge,
    RefreshTokenReused,
    TokenExpired,
    Unavailable,
)
from app.schemas.cookies import clear_auth_cookies, set_auth_cookies
from app.schemas.errors import responses
from app.schemas.sessions import LoginForm, TokenPairOut
from app.services.tokens import TokenPair

router = APIRouter(prefix="/api/v1", tags=["sessions"])


class ClearsCookies(APIRoute):
    """Takes the cookies away whatever the status, unless another site asks for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def clearing(request: Request) -> Response:
            settings = services_of(request).settings
            ours = not is_cross_site(request, settings)
            request.state.clear_auth_cookies = ours  # for an answer that is an error
            response = await handler(request)
            if ours:
                clear_auth_cookies(response, settings)
            return response

        return clearing


def _answer(pair: TokenPair, settings: Settings) -> Response:
    out = TokenPairOut.model_validate(pair)
    response = Response(out.model_dump_json(), media_type="application/json")
    response.headers["Cache-Control"] = "no-store"  # RFC 6749 §5.1
    set_auth_cookies(response, out, settings)
    return response


@router.post(
    "/token",
    summary="Log in",
    response_model=TokenPairOut,
    responses=responses(InvalidInput, InvalidCredentials, PayloadTooLarge, Unavailable),
)
async def create_token(
    form: Annotated[LoginForm, Form()],
    request: Request,
) -> Response:
    """Opens a session and answers with its token pair, in the body and as HttpOnly cookies."""
    services = services_of(request)
    password = form.password.get_secret_value()
    pair = await services.fence.run(services.sessions.log_in, form.username, password, client_of(request))
    return _answer(pair, services.settings)


@router.post(
    "/refresh",
    summary="Refresh",
    response_model=TokenPairOut,
    responses=responses(
        InvalidInput,
        NotAuthenticated,
        InvalidRefreshToken,
        RefreshTokenReused,
        CrossSiteRequest,
        PayloadTooLarge,
        Unavailable,
    ),
)
async def refresh_token(
    token: PresentedRefreshToken,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Trades a refresh token, good once, for a new pair."""
    services = services_of(request)
    pair = await services.threads.run(services.rotation.refresh, token, idempotency_key, client_of(request))
    return _answer(pair, services.settings)


async def log_out(
    who: WhoLogsOut, request: Request, scope: Annotated[Literal["all", "session"], Query()] = "all"
) -> None:
    """Ends every session of the user, or this one.

    A refresh token will do when the access token has run out.
    """
    services, client, everywhere = services_of(request), client_of(request), scope == "all"
    if isinstance(who, str):
        await services.threads.run(
            services.rotation.log_out_by_refresh_token, who, client, everywhere=everywhere
        )
    else:
        await services.threads.run(
            services.sessions.log_out, who.user_id, who.session_id, client, everywhere=everywhere
        )


router.add_api_route(
    "/logout",
    log_out,
    methods=["POST"],
    status_code=204,
    summary="Log out",
    route_class_override=ClearsCookies,
    responses=responses(
        InvalidInput,
        NotAuthenticated,
        InvalidToken,
        TokenExpired,
        InvalidRefreshToken,
        RefreshTokenReused,
        CrossSiteRequest,
        PayloadTooLarge,
        Unavailable,
    ),
)
