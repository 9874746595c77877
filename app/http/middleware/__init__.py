"""The ASGI middleware stack."""

from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from app.config import Settings
from app.http.bodies import MAX_BODY_BYTES
from app.http.direct import DirectMiddleware, Plans
from app.http.error_handlers import respond_to, respond_unforeseen
from app.http.middleware.catch_all import CatchAllMiddleware
from app.http.middleware.declared_length import DeclaredLengthMiddleware
from app.http.middleware.methods import MethodsMiddleware
from app.http.middleware.observability import ObservabilityMiddleware, start_at_zero
from app.http.middleware.page_policy import PagePolicyMiddleware
from app.http.middleware.security_headers import SecurityHeadersMiddleware
from app.http.routing import ASKED_BY_PROXIES, path_of
from app.telemetry.metrics import HttpMetrics

__all__ = ["middleware_stack", "start_at_zero"]

_CORS_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_CORS_REQUEST_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID")
_CORS_EXPOSED_HEADERS: Final = ("Link", "Retry-After", "WWW-Authenticate", "X-Request-ID", "X-Total-Count")


class _CorsMiddleware(CORSMiddleware):
    """Answers no preflight where a proxy asks: it would take that for leave to forward the request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_options = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if is_options and path_of(scope).startswith(ASKED_BY_PROXIES):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def middleware_stack(settings: Settings, metrics: HttpMetrics, plans: Plans) -> list[Middleware]:
    """The first middleware is the outermost."""
    stack = [
        Middleware(SecurityHeadersMiddleware, hsts=not settings.development),
        Middleware(ObservabilityMiddleware, metrics=metrics, log_checks=settings.log_health_checks),
    ]
    if settings.cors_origins or settings.local_origins:
        stack.append(
            Middleware(
                _CorsMiddleware,
                allow_origins=settings.cors_origins,
                allow_origin_regex=settings.local_origins,
                allow_credentials=True,
                allow_methods=_CORS_METHODS,
                allow_headers=_CORS_REQUEST_HEADERS,
                expose_headers=_CORS_EXPOSED_HEADERS,
            )
        )
    stack.append(Middleware(DirectMiddleware, plans=plans, respond=respond_to))
    stack.append(Middleware(CatchAllMiddleware, respond=respond_unforeseen))
    stack.append(Middleware(MethodsMiddleware, respond=respond_to))
    stack.append(Middleware(DeclaredLengthMiddleware, limit=MAX_BODY_BYTES))
    stack.append(Middleware(PagePolicyMiddleware))
    return stack
