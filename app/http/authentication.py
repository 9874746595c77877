"""Authentication of requests: `Annotated` dependencies for route handlers."""

from typing import Annotated, Final

from fastapi import Depends, Header, Request
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.security.base import SecurityBase
from pydantic import TypeAdapter

from app.errors import CrossSiteRequest, Forbidden, NotAuthenticated, TokenExpired, TokenRefused
from app.greenlets import run_in_greenlet
from app.http.bodies import validated
from app.http.client import client_of
from app.http.cookies import ACCESS_COOKIE, DEVICE_COOKIE, REFRESH_COOKIE
from app.http.dependencies import access_tokens_of, container_of, cookies_of
from app.http.grants import SentRefreshToken
from app.http.middleware.observability import route_of
from app.models.users import Role
from app.schemas.sessions import IdempotencyKeyText
from app.security.tokens import AccessClaims
from app.services.accounts.profile import Account
from app.services.operations.audit import UserActor
from app.services.sessions.login import LoginCookies


def bearer_of(request: Request) -> str:
    """The token of the Authorization header (RFC 6750 §2.1), or an empty string."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


class _Password(SecurityBase):
    """The security scheme for Swagger UI's *Authorize* dialog; browsers may also use the cookie."""

    scheme_name = "Password"
    model = OAuth2(
        flows=OAuthFlows(password=OAuthFlowPassword(tokenUrl="api/v1/token", scopes={})),
        description="Email and password; leave the client fields empty.",
    )


class _AccessToken(_Password):
    async def __call__(self, request: Request) -> AccessClaims:
        """The Authorization header takes precedence over the cookie.

        Raises NotAuthenticated, InvalidToken, TokenExpired, CrossSiteRequest.
        """
        token = bearer_of(request) or cookies_of(request).read(ACCESS_COOKIE)
        if not token:
            raise NotAuthenticated
        claims = await access_tokens_of(request).verify(token)
        request.state.user_id = claims.user_id
        return claims


_access_token = _AccessToken()
AccessToken = Annotated[AccessClaims, Depends(_access_token)]


async def _current_user(request: Request, claims: AccessToken) -> Account:
    """As the database knows them now. Raises InvalidToken, TokenRevoked."""
    authenticate = container_of(request).profile.authenticate
    return await run_in_greenlet(authenticate, claims.user_id, claims.session_id)


CurrentUser = Annotated[Account, Depends(_current_user)]
SignedIn = Depends(_current_user)


async def _current_actor(request: Request, user: CurrentUser, claims: AccessToken) -> UserActor:
    return UserActor(user.id, client_of(request), claims.session_id)


CurrentActor = Annotated[UserActor, Depends(_current_actor)]


async def _no_guest(user: CurrentUser) -> None:
    """Guests share one account, so none of them changes it for the others. Raises Forbidden."""
    if user.role == Role.GUEST:
        raise Forbidden


NoGuest = Depends(_no_guest)


async def _current_admin(request: Request, user: CurrentUser, actor: CurrentActor) -> UserActor:
    """Checks the role in the database, because the role in the token may be outdated. Raises Forbidden."""
    if user.role != Role.ADMIN:
        refusals = container_of(request).admin_refusals
        await run_in_greenlet(refusals.record, actor, request.method, route_of(request.scope))
        raise Forbidden
    return actor


CurrentAdmin = Annotated[UserActor, Depends(_current_admin)]
AdminOnly = Depends(_current_admin)


async def _came_by_cookie(request: Request) -> bool:
    """Only for authenticated requests: whether the browser should get new cookies."""
    return not bearer_of(request)


CameByCookie = Annotated[bool, Depends(_came_by_cookie)]


async def _login_cookies(request: Request) -> LoginCookies:
    """None of a request from another site."""
    cookies = cookies_of(request)
    try:
        return LoginCookies(cookies.read(REFRESH_COOKIE), cookies.read(DEVICE_COOKIE))
    except CrossSiteRequest:
        return LoginCookies()


CookiesOfEarlierLogin = Annotated[LoginCookies, Depends(_login_cookies)]


_KEY_HEADER: Final = "Idempotency-Key"
_KEY_TEXT: Final = TypeAdapter(IdempotencyKeyText | None)


class _IdempotencyKey:
    async def __call__(
        self,
        idempotency_key: Annotated[
            IdempotencyKeyText | None,
            Header(
                alias=_KEY_HEADER,
                description="If the response was lost, repeat the refresh with the same key within 60 s.",
            ),
        ] = None,
    ) -> str | None:
        return idempotency_key

    async def from_request(self, request: Request) -> str | None:
        key = request.headers.get(_KEY_HEADER)
        return key and validated(_KEY_TEXT.validate_python, key, "header", _KEY_HEADER)


IdempotencyKey = Annotated[str | None, Depends(_IdempotencyKey())]


class RefreshTokenCredential(str):
    """A refresh token that is used because no good access token was sent."""

    __slots__ = ()


class _LogoutCredential(_Password):
    async def __call__(self, request: Request) -> AccessClaims | RefreshTokenCredential:
        sent = await SentRefreshToken.of(request)
        try:
            claims = await _access_token(request)
            await _current_user(request, claims)
        except (NotAuthenticated, TokenRefused) as refused:
            # The browser's cookie does not stand in for a bad Bearer token that somebody chose to send.
            chosen = bearer_of(request) and not isinstance(refused, TokenExpired)
            if token := sent.token if chosen else sent.or_cookie(request):
                return RefreshTokenCredential(token)
            raise
        return claims


LogoutCredential = Annotated[AccessClaims | RefreshTokenCredential, Depends(_LogoutCredential())]
