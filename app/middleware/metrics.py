from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MetricsMiddleware:
    """Times every request, under the template of its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "500"
        begin = perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        self._metrics.http_in_progress.inc()
        try:
            await self._app(scope, receive, watch)
        finally:
            self._metrics.http_in_progress.dec()
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            duration = self._metrics.http_duration.labels(method, route_of(scope), status)
            duration.observe(perf_counter() - begin)


def route_of(scope: Scope) -> str:
    """The route's template, so that the label set is finite."""
    return getattr(scope.get("route"), "path", "<unmatched>")
