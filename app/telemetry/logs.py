"""Logging: one event per line on stdout, as JSON or text, for our code and the libraries."""

import ipaddress
import json
import logging
import logging.config
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import Processor

_LEVELS = logging.getLevelNamesMapping()
_DETAIL = re.compile(
    r"^DETAIL:.*?(?=^HINT|^CONTEXT|^\[SQL|^The above|^\(Background|\Z)", re.MULTILINE | re.DOTALL
)
Addresses = Literal["full", "masked", "none"]
_KEPT_BITS: Final = {4: 24, 6: 48}  # a household has a /56 or a /64, and a provider gives out many /48
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 without tab and newline, DEL, C1
_LEVEL_NAMES = {"exception": "error", "warn": "warning", "fatal": "critical"}
_render = structlog.dev.ConsoleRenderer(colors=False)
_encode = json.JSONEncoder(default=str).encode

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered; on each of its lines."""


def configure_logging(
    *,
    level: str,
    json: bool,
    traces: bool = False,
    addresses: Addresses = "full",
    stream: TextIO | None = None,
) -> None:
    """Our events bypass `logging` for speed, because each request logs one. Libraries use `logging`.

    `addresses` says what becomes of an event's `ip_address`.
    """
    stream = stream or sys.stdout
    shared: list[Processor] = [_complete, _add_trace_id] if traces else [_complete]
    if addresses != "full":
        shared.append(_mask_address if addresses == "masked" else _drop_address)
    structlog.configure(
        processors=[*shared, *_renderer(json=json)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,  # tests configure it again, which must affect every module
    )
    _configure_libraries(level, stream, lambda: _formatter(shared, json=json))


def _configure_libraries(level: str, stream: TextIO, formatter: Callable[[], logging.Formatter]) -> None:
    handler = {"class": "logging.StreamHandler", "stream": stream, "formatter": "line"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": formatter}},
            "handlers": {"stdout": handler},
            "root": {"handlers": ["stdout"], "level": level},
            "loggers": {
                "app": {"level": "WARNING"},  # where SQLAlchemy logs for our pool
                "uvicorn": {"handlers": [], "propagate": True},
                "uvicorn.error": {"handlers": [], "propagate": True},
                # Our `http.request` event replaces it.
                "uvicorn.access": {"handlers": [], "propagate": False},
            },
        }
    )


def library_formatter() -> logging.Formatter:
    """For uvicorn before it has loaded the application, and for its supervisor, which never loads it."""
    return _formatter([_complete], json=os.environ.get("LOG_FORMAT") == "json")


def _formatter(shared: list[Processor], *, json: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_color,
            *_renderer(json=json),
        ],
    )


def _renderer(*, json: bool) -> list[Processor]:
    return [_format_exception, _to_json if json else _to_text]


def _complete(_: object, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """One function, as each request runs it: structlog's own four take three times as long."""
    if (request_id := REQUEST_ID.get()) is not None:
        event["request_id"] = request_id
    event["level"] = _LEVEL_NAMES.get(method, method)
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return event


def _add_trace_id(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Only for requests that are traced."""
    from opentelemetry import trace  # noqa: PLC0415 — an optional dependency

    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


def _format_exception(logger: object, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """PostgreSQL's DETAIL line contains values of the row: emails and hashes."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    if "exception" in event:
        event["exception"] = _DETAIL.sub("DETAIL: (hidden)\n", event["exception"])
    return event


def _mask_address(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    if event.get("ip_address"):
        address = ipaddress.ip_address(event["ip_address"])
        address = getattr(address, "ipv4_mapped", None) or address
        network = ipaddress.ip_network((address, _KEPT_BITS[address.version]), strict=False)
        event["ip_address"] = str(network)
    return event


def _drop_address(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    event.pop("ip_address", None)
    return event


def printable(text: str) -> str:
    r"""Control characters as \u escapes, as in JSON: a terminal would obey them. Keeps tabs and newlines."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _to_text(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    return printable(_render(logger, method, event))


def _to_json(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    return _encode(event)


def _drop_color(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """uvicorn adds a second copy of each message, with color codes."""
    event.pop("color_message", None)
    return event
