from asyncio import CancelledError
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Respond = Callable[[Request, Exception | CancelledError], Awaitable[Response]]


class CatchAllMiddleware:
    """Answers unexpected exceptions.

    Starlette's own catch-all is outside the other middleware: its responses have no CORS headers and
    no request id, and the metrics do not count them.
    """

    def __init__(self, app: ASGIApp, respond: Respond) -> None:
        self._app = app
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        def watch(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self._app(scope, receive, watch)
        except (Exception, CancelledError) as error:
            if started and isinstance(error, CancelledError):
                return  # the server stops, and ends the connection where the answer is
            response = await self._respond(Request(scope, receive), error)
            if started:
                raise
            await response(scope, receive, send)
