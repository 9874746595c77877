"""OpenTelemetry: FastAPI's spans of requests, ours of statements; off unless there is a collector."""

import os
from typing import Any, Final

from fastapi.telemetry import TelemetryConfig
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext
from starlette.types import Scope

_SPAN: Final = "kanban-auth span"
_UNTRACED: Final = ("/metrics", "/health", "/api/v1/health", "/api/v1/health/live")
OFF: Final = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)


def configure_traces(endpoint: str | None) -> TelemetryConfig:
    """What FastAPI shall do. `OTEL_*` variables are read by the SDK, which is imported when it is needed."""
    if endpoint is None:
        return OFF
    os.environ.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    os.environ.setdefault("OTEL_SERVICE_NAME", "kanban-auth")
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "3")  # a collector that is away delays no shutdown
    return TelemetryConfig(
        metrics=False, logs=False, operation_spans=False, auto_configure=True, exclude=_is_untraced
    )


def trace_statements(engine: Engine) -> None:
    """A client span for each statement, with its text and without its parameters.

    Attributes by OpenTelemetry's semantic conventions for PostgreSQL clients.
    """
    from opentelemetry import trace  # noqa: PLC0415 — of the extra "tracing"

    tracer = trace.get_tracer("kanban-auth")

    def begin(
        connection: Connection, _c: DBAPICursor, statement: str, _p: Any, context: ExecutionContext, _m: Any
    ) -> None:
        operation = statement.split(maxsplit=1)[0].upper()
        attributes = {
            "db.system.name": "postgresql",
            "db.namespace": connection.engine.url.database or "",
            "db.operation.name": operation,
            "db.query.text": statement,
        }
        span = tracer.start_span(operation, kind=trace.SpanKind.CLIENT, attributes=attributes)
        setattr(context, _SPAN, span)

    def end(
        _connection: Connection, _c: DBAPICursor, _s: str, _p: Any, context: ExecutionContext, _m: Any
    ) -> None:
        getattr(context, _SPAN).end()

    def fail(failure: ExceptionContext) -> None:
        span = getattr(failure.execution_context, _SPAN, None)
        if span is not None:
            error = failure.original_exception
            span.set_attribute("error.type", getattr(error, "pgcode", None) or type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
            span.end()

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "handle_error", fail)


def _is_untraced(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["path"] in _UNTRACED
