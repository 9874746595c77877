"""The sender of a request: IP address and user agent."""

import ipaddress
from functools import lru_cache
from typing import Final

from starlette.requests import Request

from app.services.operations.audit import Client

_MAX_USER_AGENT: Final = 255


def client_of(request: Request) -> Client:
    host = request.client.host if request.client else ""
    agent = request.headers.get("user-agent", "").replace("\x00", "")[:_MAX_USER_AGENT]
    return Client(ip_address=_ip_address(host), user_agent=agent or None)


@lru_cache(maxsize=1024)
def _ip_address(host: str) -> str | None:
    """None if a proxy forwarded something that is not an IP address. An IPv6 zone is removed."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None
