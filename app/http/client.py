"""The sender of a request: IP address and user agent."""

import ipaddress
import re
from functools import lru_cache
from typing import Final

from starlette.requests import Request

from app.services.operations.audit import Client

_MAX_USER_AGENT: Final = 255
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def client_of(request: Request) -> Client:
    """Control characters of the user agent become spaces (RFC 9110 §5.5): a terminal would obey them."""
    host = request.client.host if request.client else ""
    agent = _CONTROLS.sub(" ", request.headers.get("user-agent", "")[:_MAX_USER_AGENT]).strip()
    return Client(_ip_address(host), agent or None, request.headers.get("accept-language"))


@lru_cache(maxsize=1024)
def _ip_address(host: str) -> str | None:
    """None if a proxy forwarded something that is not an IP address. An IPv6 zone is removed."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None
