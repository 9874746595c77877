"""Requests that a proxy asks about before it forwards them."""

from fastapi import Depends, Request

from app.errors import CrossSiteRequest
from app.http.authentication import CameByCookie
from app.http.cookies import SAFE_METHODS
from app.http.dependencies import AuthCookiesDep


async def _same_site(request: Request, came_by_cookie: CameByCookie, cookies: AuthCookiesDep) -> None:
    """The proxy asks with GET, whatever the method of the original request. Raises CrossSiteRequest."""
    headers = request.headers
    method = headers.get("x-forwarded-method") or headers.get("x-original-method") or request.method
    if came_by_cookie and method not in SAFE_METHODS and cookies.is_cross_site():
        raise CrossSiteRequest


SameSite = Depends(_same_site)
