"""Builds the web application from the settings."""

from typing import Final

from fastapi import FastAPI

from app.background import lifespan_of
from app.clock import Clock, utc_now
from app.config import Settings
from app.container import VERSION, Container
from app.http.access_tokens import AccessTokens
from app.http.connections import STATE_KEY, Connections
from app.http.cookies import CookiePolicy
from app.http.direct import plan_routes
from app.http.docs import with_docs, without_docs
from app.http.error_handlers import install_error_handlers
from app.http.middleware import middleware_stack, start_at_zero
from app.http.openapi import INFORMATION, correct_openapi
from app.routers import ROUTERS
from app.services.delivery.mail_templates import check_overrides
from app.telemetry import workers
from app.telemetry.logs import configure_logging
from app.telemetry.traces import configure_traces, trace_statements

_PLANS: Final = plan_routes(ROUTERS)


def create_app(settings: Settings, *, clock: Clock = utc_now) -> FastAPI:
    """Opens no connection: the application also starts while the database is down."""
    check_overrides(settings.mail_templates)
    endpoint = settings.otel_exporter_otlp_endpoint
    configure_logging(
        level=settings.log_level,
        json=settings.json_logs,
        traces=endpoint is not None,
        addresses=settings.log_addresses,
    )
    worker = workers.join() if workers.one_of_several(settings.web_concurrency) else None
    container = Container(settings, clock, worker, web=True)
    for engine in container.resources.engines if endpoint else ():
        trace_statements(engine)
    connections = Connections(settings, container.metrics.http, container.revocation_hub.close)
    plans = _PLANS if endpoint is None else {}  # tracing needs FastAPI's own routing
    app = (with_docs if settings.docs else without_docs)(
        title="Kanban Auth Service",
        version=VERSION,
        **INFORMATION,
        lifespan=lifespan_of(container, connections.sweep, {STATE_KEY: connections}),
        telemetry=configure_traces(endpoint),
        redirect_slashes=False,  # as MethodsMiddleware does it
        middleware=middleware_stack(settings, container.metrics.http, plans),
    )
    _furnish(app, container)
    return app


def _furnish(app: FastAPI, container: Container) -> None:
    app.state.container = container
    app.state.access_tokens = AccessTokens(container)
    app.state.cookie_policy = CookiePolicy.of(container.settings)
    install_error_handlers(app)
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # as they are: see LimitedRoute
    start_at_zero(container.metrics, ROUTERS)
    correct_openapi(app, container.settings)
