"""The two cookies of a signed-in browser."""

from typing import Final

from starlette.responses import Response

from app.config import Settings
from app.schemas.sessions import TokenPairOut

ACCESS_COOKIE: Final = "access_token"
REFRESH_COOKIE: Final = "refresh_token"
_PATHS: Final = {ACCESS_COOKIE: "/", REFRESH_COOKIE: "/api/v1"}


def set_auth_cookies(response: Response, pair: TokenPairOut, settings: Settings) -> None:
    if settings.auth_cookies:
        _set(response, ACCESS_COOKIE, pair.access_token, pair.expires_in, settings)
        _set(response, REFRESH_COOKIE, pair.refresh_token, pair.refresh_expires_in, settings)


def clear_auth_cookies(response: Response, settings: Settings) -> None:
    if settings.auth_cookies:
        for name in _PATHS:
            _set(response, name, "", 0, settings)


def _set(response: Response, name: str, value: str, max_age: int, settings: Settings) -> None:
    """RFC 6265 §4.1; by hand, as a JWT needs no quoting and `http.cookies` takes longer than signing it."""
    secure = "" if settings.development else "; Secure"
    cookie = f"{name}={value}; HttpOnly; Max-Age={max_age}; Path={_PATHS[name]}; SameSite=lax{secure}"
    response.headers.append("set-cookie", cookie)
