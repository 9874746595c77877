"""The cookies of a signed-in browser, and which requests may use them."""

from dataclasses import dataclass
from typing import Final, Self

from starlette.requests import Request
from starlette.responses import Response

from app.config import Settings
from app.errors import CrossSiteRequest
from app.security.devices import LIFETIME_DAYS
from app.services.sessions.tokens import TokenPair

ACCESS_COOKIE: Final = "access_token"
REFRESH_COOKIE: Final = "refresh_token"
DEVICE_COOKIE: Final = "device"
_PATHS: Final = {ACCESS_COOKIE: "/", REFRESH_COOKIE: "/api/v1", DEVICE_COOKIE: "/api/v1"}
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class CookiePolicy:
    """What the settings say of cookies; if they are not `enabled`, none is read, set or cleared."""

    enabled: bool
    secure: bool
    name_prefix: str
    path_prefix: str
    origins: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Browsers drop a cookie with a name prefix unless it is Secure; they take one from localhost."""
        return cls(
            enabled=settings.auth_cookies,
            secure=bool(settings.cookie_prefix) or not settings.development,
            name_prefix=settings.cookie_prefix,
            path_prefix=settings.cookie_path_prefix,
            origins=settings.trusted_origins,
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
            raise CrossSiteRequest
        return cookie

    def set(self, response: Response, pair: TokenPair) -> None:
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
        """By the headers Sec-Fetch-Site and Origin. Without both, the client is not a browser: False.

        Our own origin is also accepted with https, because a proxy may terminate TLS.
        """
        headers, url = self._request.headers, self._request.url
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in ("same-origin", "none") or (site is None and origin is None):
            return False
        own = {f"{scheme}://{url.netloc}" for scheme in (url.scheme, "https")}
        return origin not in own and origin not in self._policy.origins

    def _sent(self, name: str) -> str | None:
        """Takes time linear in the header's length, unlike `http.cookies`, and removes no quotes.

        Of several cookies with one name it takes none: any site of our domain could have set one of them.
        """
        name = self._policy.name_prefix + name
        header = ";".join(self._request.headers.getlist("cookie"))
        pairs = (pair.partition("=") for pair in header.split(";"))
        values = [value for key, _, value in pairs if key.strip() == name]
        return values[0].strip() if len(values) == 1 else None

    def _set(self, response: Response, name: str, value: str, max_age: int) -> None:
        """RFC 6265 §4.1. A JWT needs no quoting, and `http.cookies` is slower than signing the token."""
        policy = self._policy
        if not policy.enabled or self.is_cross_site():
            return
        path = policy.path_of(name, self._request.scope.get("root_path", ""))
        secure = "; Secure" if policy.secure else ""
        cookie = f"{policy.name_prefix}{name}={value}; HttpOnly; Max-Age={max_age}; Path={path}"
        response.headers.append("set-cookie", f"{cookie}; SameSite=lax{secure}")
