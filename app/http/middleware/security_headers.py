from collections.abc import Awaitable, Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

SECURITY_HEADERS: Final[Headers] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Of every answer, also of one that the server gives without asking the application."""
_OWN: Final = {
    b"content-security-policy": b"content-security-policy",
    b"cache-control": b"cache-control",
    b"etag": b"cache-control",
}
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")  # a year; RFC 6797 §6.1.1


class SecurityHeadersMiddleware:
    """Adds those headers that an answer does not have.

    An answer may say itself for how long it is stored; one with an ETag, such as a file, need not.
    """

    def __init__(self, app: ASGIApp, *, hsts: bool) -> None:
        """`hsts`: a browser that comes by https is told to come by nothing else."""
        self._app = app
        self._by_https = (*SECURITY_HEADERS, _HSTS) if hsts else SECURITY_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        due = self._by_https if scope["scheme"] == "https" else SECURITY_HEADERS

        def add(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_without_own(due, message["headers"])]
            return send(message)

        await self._app(scope, receive, add)


def _without_own(due: Headers, headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    own = [_OWN[name] for name, _ in headers if name in _OWN]
    return (each for each in due if each[0] not in own) if own else due
