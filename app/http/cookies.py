"""The cookies of a signed-in browser, and which requests may use them."""

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import Response

from app.config import Settings
from app.errors import CrossSiteRequest
from app.http.origins import OwnOrigins
from app.security.devices import LIFETIME_DAYS
from app.services.sessions.tokens import TokenPair

ACCESS_COOKIE: Final = "access_token"
REFRESH_COOKIE: Final = "refresh_token"
DEVICE_COOKIE: Final = "device"
_PATHS: Final = {ACCESS_COOKIE: "/", REFRESH_COOKIE: "/api/v1", DEVICE_COOKIE: "/api/v1"}
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_MAX_ORIGIN: Final = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CookiePolicy:
    """What the settings say of cookies; if they are not `enabled`, none is read, set or cleared."""

    enabled: bool
    secure: bool
    name_prefix: str
    path_prefix: str
    origins: OwnOrigins

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Browsers drop a cookie with a name prefix unless it is Secure; they take one from localhost."""
        return cls(
            enabled=settings.auth_cookies,
            secure=bool(settings.cookie_prefix) or not settings.development,
            name_prefix=settings.cookie_prefix,
            path_prefix=settings.cookie_path_prefix,
            origins=OwnOrigins(
                settings.trusted_origins,
                re.compile(settings.local_origins) if settings.local_origins else None,
                nearby=settings.development,
                public_host=urlsplit(settings.public_url).netloc if settings.public_url else None,
            ),
        )

    def path_of(self, name: str, root_path: str) -> str:
        """`__Host-` demands `/` (RFC 6265bis §4.1.3.2)."""
        path = _PATHS[name]
        if path == "/" or self.name_prefix == "__Host-":
            return "/"
        return (self.path_prefix or root_path) + path


class AuthCookies:
    """The cookies of one request and its response. A cross-site request sets and clears none."""

    def __init__(self, policy: CookiePolicy, request: Request) -> None:
        self._policy = policy
        self._request = request

    def read(self, name: str) -> str | None:
        """Raises CrossSiteRequest for a cookie in a cross-site request with an unsafe method."""
        cookie = self._sent(name) if self._policy.enabled else None
        if cookie and self._request.method not in SAFE_METHODS and self.is_cross_site():
            raise self.cross_site_request()
        return cookie

    def set(self, response: Response, pair: TokenPair) -> None:
        if self._policy.enabled and self.is_cross_site():
            log.warning("cookies.withheld", **self.cross_site_request().facts)
        self._set(response, ACCESS_COOKIE, pair.access_token, pair.expires_in)
        self._set(response, REFRESH_COOKIE, pair.refresh_token, pair.refresh_expires_in)

    def set_device(self, response: Response, device: str) -> None:
        """It outlives the sessions: the browser is known at the next login."""
        self._set(response, DEVICE_COOKIE, device, LIFETIME_DAYS * 86_400)

    def clear(self, response: Response, *, device: bool = False) -> None:
        for name in _PATHS:
            if name != DEVICE_COOKIE or device:
                self._set(response, name, "", 0)

    def is_cross_site(self) -> bool:
        signs_out = getattr(self._request.state, "clear_auth_cookies", False)
        has_cookie = signs_out and any(map(self._all, (ACCESS_COOKIE, REFRESH_COOKIE)))
        return self._policy.origins.is_cross_site(self._request, signs_out=has_cookie)

    def cross_site_request(self) -> CrossSiteRequest:
        """The error, with what an operator needs to tell a page of theirs from another's."""
        origin, host = self._request.headers.get("origin"), self._request.url.netloc
        setting = "CORS_ORIGINS" if "sec-fetch-site" in self._request.headers else "PUBLIC_URL"
        of_page = setting if origin != "null" else None
        return CrossSiteRequest(origin and origin[:_MAX_ORIGIN], host[:_MAX_ORIGIN], of_page)

    def _sent(self, name: str) -> str | None:
        """Of several cookies with one name none: any site of our domain could have set one of them."""
        values = self._all(name)
        return values[0].strip() if len(values) == 1 else None

    def _all(self, name: str) -> list[str]:
        """Takes time linear in the header's length, unlike `http.cookies`, and removes no quotes."""
        name = self._policy.name_prefix + name
        header = ";".join(self._request.headers.getlist("cookie"))
        pairs = (pair.partition("=") for pair in header.split(";"))
        return [value for key, _, value in pairs if key.strip() == name]

    def _set(self, response: Response, name: str, value: str, max_age: int) -> None:
        """RFC 6265 §4.1. A JWT needs no quoting, and `http.cookies` is slower than signing the token."""
        policy = self._policy
        if not policy.enabled or self.is_cross_site():
            return
        path = policy.path_of(name, self._request.scope.get("root_path", ""))
        secure = "; Secure" if policy.secure else ""
        cookie = f"{policy.name_prefix}{name}={value}; HttpOnly; Max-Age={max_age}; Path={path}"
        response.headers.append("set-cookie", f"{cookie}; SameSite=lax{secure}")
