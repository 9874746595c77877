"""Every `Annotated` name a router uses."""

import hmac
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.security.base import SecurityBase

from app.clock import Clock
from app.config import Settings
from app.errors import CrossSiteRequest, Forbidden, InvalidToken, NotAuthenticated, TokenExpired
from app.metrics import Metrics
from app.models.users import Role
from app.schemas.cookies import ACCESS_COOKIE, REFRESH_COOKIE
from app.schemas.sessions import IdempotencyKeyText, RefreshRequest
from app.security.keys import TokenKeys
from app.security.tokens import AccessClaims, decode_access
from app.services.account import AccountService
from app.services.admin import AdminService
from app.services.audit import Actor, AuditService, Client
from app.services.cleanup import CleanupService
from app.services.health import HealthService
from app.services.passwords import HashingFence
from app.services.rotation import RotationService
from app.services.sessions import SessionService
from app.services.threads import Threads
from app.services.users import Account, UserService

_MAX_USER_AGENT = 255
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Services:
    """What `create_app` builds once; found at `app.state.services`."""

    settings: Settings
    keys: TokenKeys
    clock: Clock
    metrics: Metrics
    fence: HashingFence
    threads: Threads
    health_thread: Threads
    cleanup_thread: Threads
    users: UserService
    account: AccountService
    admin: AdminService
    audit: AuditService
    sessions: SessionService
    rotation: RotationService
    health: HealthService
    cleanup: CleanupService


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    return services_of(request)


def client_of(request: Request) -> Client:
    host = request.client.host if request.client else ""
    agent = request.headers.get("user-agent", "").replace("\x00", "")[:_MAX_USER_AGENT]
    return Client(ip_address=_ip_address(host), user_agent=agent or None)


@lru_cache(maxsize=1024)
def _ip_address(host: str) -> str | None:
    """A proxy's word for the client may be anything; only an address is kept, without its zone."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


# One dependency for all services, as each dependency of a request has its price.
ServicesDep = Annotated[Services, Depends(_services)]
IdempotencyKey = Annotated[
    IdempotencyKeyText | None,
    Header(description="Repeat a refresh whose answer was lost, with the same key, within 60 s."),
]


def is_cross_site(request: Request, settings: Settings) -> bool:
    """Whether a browser says that another site made this request (no header: no browser).

    The own origin also counts in its https spelling, as TLS may end at a proxy.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site in ("same-origin", "none") or (site is None and origin is None):
        return False
    own = {f"{scheme}://{request.url.netloc}" for scheme in (request.url.scheme, "https")}
    return origin not in own and origin not in settings.cors_origins


def _cookie(name: str, request: Request) -> str | None:
    """Raises CrossSiteRequest where a cookie alone would change something for another site."""
    settings = services_of(request).settings
    cookie = request.cookies.get(name) if settings.auth_cookies else None
    if cookie and request.method not in _SAFE_METHODS and is_cross_site(request, settings):
        raise CrossSiteRequest
    return cookie


def _bearer(request: Request) -> str:
    """RFC 6750 §2.1; empty when there is none."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


async def metrics_reader(request: Request) -> None:
    """Raises NotAuthenticated, InvalidToken, where METRICS_TOKEN is set."""
    expected = services_of(request).settings.metrics_token
    if expected is None:
        return
    if not (token := _bearer(request)):
        raise NotAuthenticated
    if not hmac.compare_digest(token.encode("latin-1"), expected.get_secret_value().encode()):
        raise InvalidToken


class _Password(SecurityBase):
    """What Swagger UI's *Authorize* asks for; a browser may also use the cookie."""

    scheme_name = "Password"
    model = OAuth2(
        flows=OAuthFlows(password=OAuthFlowPassword(tokenUrl="api/v1/token", scopes={})),
        description="Email and password; leave the client fields empty.",
    )


class _AccessToken(_Password):
    """One dependency for header, cookie and verification, as each dependency has its price."""

    async def __call__(self, request: Request) -> AccessClaims:
        """The header wins over the cookie.

        Raises NotAuthenticated, InvalidToken, TokenExpired, CrossSiteRequest.
        """
        token = _bearer(request) or _cookie(ACCESS_COOKIE, request) or ""
        if not token:
            raise NotAuthenticated
        services = services_of(request)
        claims = decode_access(token, services.keys, services.clock().timestamp())
        request.state.user_id = claims.user_id
        return claims


access_token = _AccessToken()
AccessToken = Annotated[AccessClaims, Depends(access_token)]


def came_by_cookie(request: Request) -> bool:
    """Of a request that is authenticated: whether its browser should hear of new cookies."""
    return not _bearer(request)


async def _current_user(request: Request, claims: AccessToken) -> Account:
    services = services_of(request)
    return await services.threads.run(services.users.get_active, claims.user_id)


CurrentUser = Annotated[Account, Depends(_current_user)]


async def current_actor(request: Request, user: CurrentUser) -> Actor:
    """An active user, as the database knows them."""
    return Actor(user.id, client_of(request))


CurrentActor = Annotated[Actor, Depends(current_actor)]


async def current_admin(request: Request, user: CurrentUser) -> Actor:
    """By the role in the database: the token's may be of yesterday. Raises Forbidden."""
    if user.role != Role.ADMIN:
        raise Forbidden
    return Actor(user.id, client_of(request))


CurrentAdmin = Annotated[Actor, Depends(current_admin)]


async def _maybe_refresh_token(request: Request, body: RefreshRequest | None = None) -> str | None:
    if body is not None and body.refresh_token is not None:
        return body.refresh_token.get_secret_value()
    return _cookie(REFRESH_COOKIE, request)


async def _refresh_token(request: Request, body: RefreshRequest | None = None) -> str:
    if token := await _maybe_refresh_token(request, body):
        return token
    raise NotAuthenticated


PresentedRefreshToken = Annotated[str, Depends(_refresh_token)]


class _WhoLogsOut(_Password):
    async def __call__(self, request: Request, body: RefreshRequest | None = None) -> AccessClaims | str:
        """The claims of an access token; a refresh token where that has run out, or was not sent."""
        try:
            return await access_token(request)
        except (NotAuthenticated, TokenExpired):
            if token := await _maybe_refresh_token(request, body):
                return token
            raise


who_logs_out = _WhoLogsOut()
WhoLogsOut = Annotated[AccessClaims | str, Depends(who_logs_out)]
