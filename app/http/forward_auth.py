"""Requests that a proxy asks about before it forwards them."""

from typing import Final

from fastapi import Depends, Request

from app.http.authentication import CameByCookie
from app.http.cookies import SAFE_METHODS
from app.http.dependencies import AuthCookiesDep

_METHOD_HEADERS: Final = ("x-forwarded-method", "x-original-method")


async def _same_site(request: Request, came_by_cookie: CameByCookie, cookies: AuthCookiesDep) -> None:
    """The proxy asks with GET, whatever the method of the original request. Raises CrossSiteRequest."""
    if came_by_cookie and not _methods_of(request) <= {*SAFE_METHODS} and cookies.is_cross_site():
        raise cookies.cross_site_request()


def _methods_of(request: Request) -> set[str]:
    """All that are named: one of them may be the client's own word, and nobody knows which."""
    values = [value for name in _METHOD_HEADERS for value in request.headers.getlist(name)]
    named = (method.strip() for value in values for method in value.split(","))
    return {request.method, *filter(None, named)}


SameSite = Depends(_same_site)
