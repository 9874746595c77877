from starlette.types import ASGIApp, Receive, Scope, Send


class DeclaredLengthMiddleware:
    """Removes a Content-Length over the limit, so that Starlette counts the body instead.

    If Content-Length is over the limit, Starlette answers in plain text and calls no error handler. If
    the counted bytes are over the limit, it raises an error, and our handlers answer it.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._declares_excess(scope):
            headers = [header for header in scope["headers"] if header[0] != b"content-length"]
            scope["headers"] = headers  # not a copy: the outer middleware reads the route from this scope
        await self._app(scope, receive, send)

    def _declares_excess(self, scope: Scope) -> bool:
        return any(
            name == b"content-length" and value.isdigit() and int(value) > self._limit
            for name, value in scope["headers"]
        )
