import re
from collections.abc import Awaitable, Iterable
from functools import cache
from random import getrandbits  # an id is not secret, and secure randomness costs a system call
from time import perf_counter
from typing import Final

import structlog
from fastapi.routing import APIRoute, APIRouter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.logs import REQUEST_ID
from app.telemetry.metrics import HttpMetrics, Metrics

_HEADER: Final = b"x-request-id"
_USABLE: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHOD_NOT_ALLOWED: Final = 405
_FIRST_ERROR: Final = 400
CHECKS: Final = frozenset({"/health", "/api/v1/health", "/api/v1/health/live", "/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ObservabilityMiddleware:
    """Adds a request id to the log lines and the response of each request; measures, counts and logs it."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, *, log_checks: bool) -> None:
        """Without `log_checks`, health checks and scrapes that succeed leave no line in the log."""
        self._app = app
        self._metrics = metrics
        self._silent = frozenset() if log_checks else CHECKS
        self._series = cache(metrics.duration.labels)
        self._log = structlog.get_logger().bind()  # bound once, not for each line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or f"{getrandbits(128):032x}"
        status = 500
        begin = perf_counter()

        def observe(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, request_id.encode())]
            return send(message)

        REQUEST_ID.set(request_id)  # until the request's task ends
        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, observe)
        finally:
            self._metrics.in_progress.dec()
            self._report(scope, status, perf_counter() - begin)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], route_of(scope)
        label = "<unmatched>" if status == _METHOD_NOT_ALLOWED else route
        self._series(method if method in _METHODS else "OTHER", label, status).observe(seconds)
        if route in self._silent and status < _FIRST_ERROR:
            return
        user_id = scope.get("state", {}).get("user_id")
        self._log.info(
            "http.request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            **({} if user_id is None else {"user_id": user_id}),
        )


def start_at_zero(metrics: Metrics, routers: Iterable[APIRouter]) -> None:
    """Each documented response has a series from the start, so that a new dashboard shows zeros, not gaps."""
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute):
            for status in (route.status_code or 200, *route.responses):
                for method in route.methods or ():
                    metrics.exposition.expect(metrics.http.duration, method, route.path, str(status))


def route_of(scope: Scope) -> str:
    """The path template, so that the label has a finite set of values; of files, that of their folder."""
    if (route := scope.get("route")) is not None:
        return str(route.path)
    root: str = scope.get("root_path", "")
    return root.removeprefix(scope.get("app_root_path", root)) or "<unmatched>"


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER and _USABLE.fullmatch(value):
            return str(value, "ascii")
    return None
