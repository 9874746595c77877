import re
from random import getrandbits  # an id is no secret, and the system's randomness takes a system call
from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.metrics import route_of

_HEADER = b"x-request-id"
_USABLE = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestLogMiddleware:
    """Gives each request an id, on every line it logs and in its answer, and a line at its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = structlog.get_logger().bind()  # once, rather than for each line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or f"{getrandbits(128):032x}"
        status = 500
        begin = perf_counter()

        async def tag(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, request_id.encode())]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)  # gone with the request's task
        try:
            await self._app(scope, receive, tag)
        finally:
            user_id = scope.get("state", {}).get("user_id")
            self._log.info(
                "http.request",
                method=scope["method"],
                route=route_of(scope),
                status=status,
                duration_ms=round((perf_counter() - begin) * 1000, 2),
                **({} if user_id is None else {"user_id": user_id}),
            )


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER and _USABLE.fullmatch(value):
            return str(value, "ascii")
    return None
