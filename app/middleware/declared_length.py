from starlette.types import ASGIApp, Receive, Scope, Send


class DeclaredLengthMiddleware:
    """Hides a Content-Length over the limit, so that the body is counted instead.

    Starlette's body limit answers a declared excess in plain text, past every error handler; a
    counted one it raises, and our handlers answer it like any other error.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._declares_excess(scope):
            headers = [header for header in scope["headers"] if header[0] != b"content-length"]
            scope["headers"] = headers  # in place: the outer middleware reads the route from this scope
        await self._app(scope, receive, send)

    def _declares_excess(self, scope: Scope) -> bool:
        return any(
            name == b"content-length" and value.isdigit() and int(value) > self._limit
            for name, value in scope["headers"]
        )
