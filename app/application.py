"""The composition root: settings in, application out."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import RedirectResponse

from app import workers
from app.clock import Clock, utc_now
from app.config import Settings
from app.database import POOL_SIZE, Database, connect, watch
from app.dependencies import Services
from app.error_handlers import install_error_handlers, respond_unforeseen
from app.errors import Unavailable
from app.logs import configure_logging
from app.metrics import Metrics
from app.middleware.catch_all import CatchAllMiddleware
from app.middleware.declared_length import DeclaredLengthMiddleware
from app.middleware.metrics import MetricsMiddleware
from app.middleware.request_log import RequestLogMiddleware
from app.models.sessions import EndReason
from app.routers import account, admin, audit, health, metrics, sessions, users
from app.security.keys import derive_keys
from app.security.passwords import PasswordScheme
from app.services.account import AccountService
from app.services.admin import AdminService
from app.services.audit import AuditService
from app.services.cleanup import CleanupService
from app.services.health import HealthService
from app.services.passwords import HashingFence, PasswordService
from app.services.rotation import RotationService
from app.services.sessions import SessionService
from app.services.threads import Threads
from app.services.tokens import Lifetimes, TokenIssuer
from app.services.users import UserService
from app.traces import configure_traces, trace_statements

log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024
DATABASE_THREADS: Final = 2
DATABASE_PATIENCE_SECONDS: Final = 3
DESCRIPTION: Final = """
Accounts, sessions and tokens of the Kanban app.

**Try it:** register at `POST /api/v1/users/`, press *Authorize*, enter the email and the password, and call
`GET /api/v1/me`.

`POST /api/v1/token` is the login of our own frontend. It looks like OAuth 2.0's password grant, so that
Swagger UI and HTTP libraries can use it; it is no grant for third parties, which RFC 9700 §2.4 rules out.
"""
NEW_PASSWORDS: Final = (
    ("NewUser", "password"),
    ("AdminNewUser", "password"),
    ("PasswordChange", "new_password"),
)
VERSION: Final = "1.0.0"
# In the order in which a request is compared with their routes: what is asked most comes first.
ROUTERS: Final = (
    sessions.router,
    users.router,
    health.router,
    metrics.router,
    account.router,
    admin.router,
    audit.router,
)
TAGS: Final = ("users", "sessions", "my account", "administration", "operations")


def create_app(settings: Settings, *, clock: Clock = utc_now) -> FastAPI:
    """Connects to nothing: the application starts, and says so, while the database is away."""
    configure_logging(
        level=settings.log_level,
        json=settings.json_logs,
        traces=settings.otel_exporter_otlp_endpoint is not None,
    )
    database = Database(connect(settings.database_url.get_secret_value()))
    worker = workers.join() if workers.one_of_several(settings.web_concurrency) else None
    metrics = Metrics(EndReason, VERSION, worker)
    services = build_services(settings, database, metrics, clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # What exists by now stays for good: a full collection need not look at it, which takes 60 ms.
        gc.collect()
        gc.freeze()
        cleaning = asyncio.create_task(_keep_clean(services))
        yield
        services.cleanup.stopping.set()
        cleaning.cancel()
        with suppress(asyncio.CancelledError):
            await cleaning
        services.cleanup_thread.close()
        services.fence.close()
        services.threads.close()
        services.health_thread.close()
        database.engine.dispose()
        if worker is not None:
            worker.leave()

    app = FastAPIOffline(
        title="Kanban Auth Service",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=[{"name": tag} for tag in TAGS],
        lifespan=lifespan,
        telemetry=configure_traces(settings.otel_exporter_otlp_endpoint),
        middleware=_middleware(settings, services.metrics),
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    install_error_handlers(app)
    for router in ROUTERS:
        app.include_router(router, max_body_size=MAX_BODY_BYTES)
    _start_at_zero(services.metrics)
    app.add_api_route("/", _to_docs, include_in_schema=False)
    _document_what_is_true(app, settings)
    return app


async def _keep_clean(services: Services) -> None:
    services.cleanup.stopping.clear()
    while interval := services.settings.cleanup_interval_seconds:
        try:
            await services.cleanup_thread.run(services.cleanup.sweep)
        except Unavailable as error:
            log.warning("cleanup.postponed", reason=getattr(error, "reason", error.code))
        except Exception:
            log.exception("cleanup.failed")
        await asyncio.sleep(interval)


def _start_at_zero(metrics: Metrics) -> None:
    """A series for each documented answer, so that a fresh dashboard shows zeros, not gaps."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                for status in (route.status_code or 200, *route.responses):
                    for method in route.methods or ():
                        metrics.http_duration.labels(method, route.path, str(status))


def build_services(settings: Settings, database: Database, metrics: Metrics, clock: Clock) -> Services:
    watch(database.engine, metrics.pool_in_use, metrics.database_errors)
    metrics.pool_size.set(POOL_SIZE)
    if settings.otel_exporter_otlp_endpoint:
        trace_statements(database.engine)
    keys = derive_keys(
        settings.secret_key.get_secret_value(),
        algorithm=settings.jwt_algorithm,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    lifetimes = Lifetimes(
        access=timedelta(minutes=settings.access_token_expire_minutes),
        idle=timedelta(days=settings.refresh_token_expire_days),
        session=timedelta(days=settings.session_max_days),
    )
    scheme = PasswordScheme(settings.bcrypt_rounds)
    passwords = PasswordService(scheme, settings.password_min_length, metrics)
    audit = AuditService(database, clock)
    accounts = UserService(database, passwords, audit, clock, metrics)
    issuer = TokenIssuer(keys, lifetimes)
    logins = SessionService(database, accounts, issuer, audit, clock, metrics)
    account_service = AccountService(database, accounts, logins, audit)
    leeway = timedelta(seconds=settings.refresh_reuse_leeway_seconds)
    return Services(
        settings=settings,
        keys=keys,
        clock=clock,
        metrics=metrics,
        fence=HashingFence(workers=settings.web_concurrency, metrics=metrics),
        threads=Threads(
            DATABASE_THREADS,
            "database",
            patience_seconds=DATABASE_PATIENCE_SECONDS,
            waiting=metrics.pool_waiting,
        ),
        cleanup_thread=Threads(1, "cleanup", patience_seconds=DATABASE_PATIENCE_SECONDS),
        health_thread=Threads(1, "health", patience_seconds=DATABASE_PATIENCE_SECONDS),
        users=accounts,
        account=account_service,
        admin=AdminService(database, accounts, account_service, logins, audit, metrics),
        audit=audit,
        sessions=logins,
        rotation=RotationService(database, logins, issuer, leeway, clock, metrics),
        health=HealthService(database),
        cleanup=CleanupService(
            database,
            sessions_kept=timedelta(days=settings.revoked_session_retention_days),
            audit_kept=timedelta(days=settings.audit_retention_days),
            clock=clock,
            metrics=metrics,
        ),
    )


def _middleware(settings: Settings, metrics: Metrics) -> list[Middleware]:
    """From the outside in."""
    stack = [Middleware(RequestLogMiddleware), Middleware(MetricsMiddleware, metrics=metrics)]
    if settings.cors_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_credentials=True,
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
                expose_headers=["Link", "Retry-After", "WWW-Authenticate", "X-Request-ID", "X-Total-Count"],
            )
        )
    stack.append(Middleware(CatchAllMiddleware, respond=respond_unforeseen))
    stack.append(Middleware(DeclaredLengthMiddleware, limit=MAX_BODY_BYTES))
    return stack


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("docs")


def _document_what_is_true(app: FastAPI, settings: Settings) -> None:
    """Where FastAPI cannot know: we answer 400 instead of 422, and a password's length is a setting."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = generate()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for schema, field in NEW_PASSWORDS:
            schemas[schema]["properties"][field]["minLength"] = settings.password_min_length
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend it
