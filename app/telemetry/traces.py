"""OpenTelemetry: FastAPI's spans for requests, our spans for statements; off without a collector."""

import os
from typing import Any, Final

from fastapi.telemetry import TelemetryConfig
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import ExecutionContext
from starlette.types import Scope

_SPAN: Final = "kanban-auth span"
_UNTRACED: Final = ("/metrics", "/health", "/api/v1/health", "/api/v1/health/live")
OFF: Final = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)


def configure_traces(endpoint: str | None) -> TelemetryConfig:
    """FastAPI's configuration. The SDK is imported only if it is needed, and reads the `OTEL_*` variables."""
    if endpoint is None:
        return OFF
    os.environ.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    os.environ.setdefault("OTEL_SERVICE_NAME", "kanban-auth")
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "3")  # a shutdown must not wait for the collector
    return TelemetryConfig(
        metrics=False, logs=False, operation_spans=False, auto_configure=True, exclude=_is_untraced
    )


def trace_statements(engine: Engine) -> None:
    """Creates a client span for each statement, with its text but without its parameters.

    The attributes follow OpenTelemetry's semantic conventions for PostgreSQL clients.
    """
    from opentelemetry import trace  # noqa: PLC0415 — an optional dependency

    spans = _StatementSpans(trace)
    event.listen(engine, "before_cursor_execute", spans.begin)
    event.listen(engine, "after_cursor_execute", spans.end)
    event.listen(engine, "handle_error", spans.fail)


class _StatementSpans:
    def __init__(self, trace: Any) -> None:
        self._trace = trace
        self._tracer = trace.get_tracer("kanban-auth")

    def begin(
        self, connection: Connection, _c: Any, statement: str, _p: Any, context: ExecutionContext, _m: Any
    ) -> None:
        operation = statement.split(maxsplit=1)[0].upper()
        attributes = {
            "db.system.name": "postgresql",
            "db.namespace": connection.engine.url.database or "",
            "db.operation.name": operation,
            "db.query.text": statement,
        }
        span = self._tracer.start_span(operation, kind=self._trace.SpanKind.CLIENT, attributes=attributes)
        setattr(context, _SPAN, span)

    def end(self, _connection: Any, _c: Any, _s: str, _p: Any, context: ExecutionContext, _m: Any) -> None:
        getattr(context, _SPAN).end()

    def fail(self, failure: ExceptionContext) -> None:
        span = getattr(failure.execution_context, _SPAN, None)
        if span is not None:
            error = failure.original_exception
            span.set_attribute("error.type", getattr(error, "pgcode", None) or type(error).__qualname__)
            span.set_status(self._trace.StatusCode.ERROR)
            span.end()


def _is_untraced(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["path"] in _UNTRACED
