"""The two cookies of a signed-in browser, and which requests may use them."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app.config import Settings
from app.errors import CrossSiteRequest
from app.services.sessions.tokens import TokenPair

ACCESS_COOKIE: Final = "access_token"
REFRESH_COOKIE: Final = "refresh_token"
_PATHS: Final = {ACCESS_COOKIE: "/", REFRESH_COOKIE: "/api/v1"}
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


class AuthCookies:
    """If `AUTH_COOKIES=false`, no cookie is read, set or cleared."""

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.auth_cookies
        self._secure = "" if settings.development else "; Secure"
        self._other_origins = settings.cors_origins

    def read(self, name: str, request: Request) -> str | None:
        """Raises CrossSiteRequest for a cookie in a cross-site request with an unsafe method."""
        cookie = request.cookies.get(name) if self._enabled else None
        if cookie and request.method not in _SAFE_METHODS and self.is_cross_site(request):
            raise CrossSiteRequest
        return cookie

    def set(self, response: Response, pair: TokenPair) -> None:
        if self._enabled:
            self._set(response, ACCESS_COOKIE, pair.access_token, pair.expires_in)
            self._set(response, REFRESH_COOKIE, pair.refresh_token, pair.refresh_expires_in)

    def clear(self, response: Response) -> None:
        if self._enabled:
            for name in _PATHS:
                self._set(response, name, "", 0)

    def is_cross_site(self, request: Request) -> bool:
        """By the headers Sec-Fetch-Site and Origin. Without both, the client is not a browser: False.

        Our own origin is also accepted with https, because a proxy may terminate TLS.
        """
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site in ("same-origin", "none") or (site is None and origin is None):
            return False
        own = {f"{scheme}://{request.url.netloc}" for scheme in (request.url.scheme, "https")}
        return origin not in own and origin not in self._other_origins

    def _set(self, response: Response, name: str, value: str, max_age: int) -> None:
        """RFC 6265 §4.1. A JWT needs no quoting, and `http.cookies` is slower than signing the token."""
        cookie = (
            f"{name}={value}; HttpOnly; Max-Age={max_age}; Path={_PATHS[name]}; SameSite=lax{self._secure}"
        )
        response.headers.append("set-cookie", cookie)
