"""What `/metrics` exports. Every label set is finite and starts at 0."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

LOGIN_FAILURES: Final = ("unknown_email", "wrong_password", "disabled")
REFRESH_OUTCOMES: Final = (
    "rotated",
    "replayed",
    "raced",
    "reuse_detected",
    "revoked",
    "expired",
    "invalid",
)
_HTTP_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_HASH_BUCKETS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)


class Metrics:
    """One set per application, in a registry of its own. Durations are in seconds."""

    def __init__(self, session_end_reasons: Iterable[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more per counter, read by nobody
        self.registry = CollectorRegistry()
        self.http_duration = Histogram(
            "http_request_duration_seconds",
            "Time from the request's arrival to the end of its answer.",
            ("method", "route", "status"),
            buckets=_HTTP_BUCKETS,
            registry=self.registry,
        )
        self.http_in_progress = Gauge(
            "http_requests_in_progress", "Requests being answered.", registry=self.registry
        )
        self.registrations = self._counter(
            "app_user_registrations", "Users registered.", "method", ("password",)
        )
        self.logins = self._counter("app_user_logins", "Logins.", "method", ("password",))
        self.refreshes = self._counter(
            "app_refresh_token_usage", "Refresh tokens accepted.", "method", ("refresh",)
        )
        self.login_failures = self._counter("app_login_failures", "Logins refused.", "reason", LOGIN_FAILURES)
        self.refresh_outcomes = self._counter(
            "app_refresh_outcomes", "What became of refreshes.", "outcome", REFRESH_OUTCOMES
        )
        self.sessions_ended = self._counter(
            "app_sessions_ended", "Sessions revoked.", "reason", session_end_reasons
        )
        self.hash_duration = Histogram(
            "app_password_hash_seconds",
            "Time to compute one password hash.",
            buckets=_HASH_BUCKETS,
            registry=self.registry,
        )
        self.hash_queue = Gauge(
            "app_password_hash_queue",
            "Requests that wait for their turn to hash.",
            registry=self.registry,
        )
        self.pool_in_use = Gauge(
            "app_database_pool_in_use", "Database connections in use.", registry=self.registry
        )
        self.pool_size = Gauge(
            "app_database_pool_size", "Database connections allowed.", registry=self.registry
        )

    def _counter(self, name: str, text: str, label: str, values: Iterable[str]) -> Counter:
        counter = Counter(name, text, (label,), registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter
