"""uvicorn's protocol, hearing of a trusted proxy under which path browsers reach us."""

from asyncio import Transport
from typing import Any, Final

from starlette.requests import Request
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from app.http.upgrades import UpgradeIgnoringProtocol
from app.setting_types import PATH_PREFIX

_FROM_PROXY: Final = "from_proxy"
_LONGEST_PREFIX: Final = 200
_PREFIX_HEADER: Final = b"x-forwarded-prefix"


class ProxiedProtocol(UpgradeIgnoringProtocol):
    """Takes X-Forwarded-Prefix for the root path; uvicorn itself takes X-Forwarded-For and -Proto.

    Whom uvicorn trusts (FORWARDED_ALLOW_IPS) is asked here, because it puts the client's address in the place
    of the proxy's.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._has_proxy = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn narrows it
        super().connection_made(transport)
        app = self.config.loaded_app
        peer = self.client[0] if self.client else None
        self._has_proxy = isinstance(app, ProxyHeadersMiddleware) and peer in app.trusted_hosts

    def on_headers_complete(self) -> None:
        if self._has_proxy:
            self.scope["state"][_FROM_PROXY] = True
            self.root_path = self.scope["root_path"] = _prefix_in(self.headers) or self.config.root_path
        super().on_headers_complete()


def is_from_proxy(request: Request) -> bool:
    return bool(getattr(request.state, _FROM_PROXY, False))


def _prefix_in(headers: list[tuple[bytes, bytes]]) -> str:
    """Empty if there is none, or none that is a path. Each proxy on the way adds its own at the end."""
    values = [value.decode("latin-1") for name, value in headers if name == _PREFIX_HEADER]
    prefix = "".join(part.strip().rstrip("/") for part in ",".join(values).split(",")) if values else ""
    return prefix if len(prefix) <= _LONGEST_PREFIX and PATH_PREFIX.fullmatch(prefix) else ""
