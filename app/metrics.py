"""What `/metrics` exports. Every label set is finite and starts at 0."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.workers import FOLDER_VARIABLE, Worker

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


ADMIN_ACTIONS: Final = (
    "user_created",
    "user_imported",
    "role_changed",
    "user_disabled",
    "user_enabled",
    "user_deleted",
    "password_set",
    "sessions_ended",
)
# PostgreSQL's classes of errors (its Appendix A) that a service like this can meet.
SQLSTATE_CLASSES: Final = (
    *("08", "22", "23", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58", "XX"),
    *("other", "none"),
)
_SUM: Final = "livesum"


class Metrics:
    """One set per application, in a registry of its own. Durations are in seconds.

    With a `worker`, the values of all the workers of its server are added up in each scrape.
    """

    def __init__(
        self, session_end_reasons: Iterable[str], version: str, worker: Worker | None = None
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more per counter, read by nobody
        values.ValueClass = values.MutexValue
        if worker is not None:
            os.environ[FOLDER_VARIABLE] = str(worker.folder)
            values.ValueClass = values.MultiProcessValue(lambda: worker.place)  # type: ignore[no-untyped-call] # is untyped
        self.registry = CollectorRegistry()
        self._exported = self.registry
        if worker is not None:
            self._exported = CollectorRegistry()
            self._exported.register(_AllWorkers(worker))
        self.http_duration = Histogram(
            "http_request_duration_seconds",
            "Time from the request's arrival to the end of its answer.",
            ("method", "route", "status"),
            buckets=_HTTP_BUCKETS,
            registry=self.registry,
        )
        self.http_in_progress = self._gauge("http_requests_in_progress", "Requests being answered.")
        self.registrations = self._counter(
            "app_user_registrations", "Users registered.", "method", ("password",)
        )
        self.logins = self._counter("app_user_logins", "Logins.", "method", ("password",))
        self.login_failures = self._counter("app_login_failures", "Logins refused.", "reason", LOGIN_FAILURES)
        self.refreshes = self._counter(
            "app_refresh_token_usage", "Refresh tokens accepted.", "method", ("refresh",)
        )
        self.refresh_outcomes = self._counter(
            "app_refresh_outcomes", "What became of refreshes.", "outcome", REFRESH_OUTCOMES
        )
        self.sessions_ended = self._counter(
            "app_sessions_ended", "Sessions revoked.", "reason", session_end_reasons
        )
        self.sessions_purged = Counter(
            "app_sessions_purged", "Sessions deleted after their end.", registry=self.registry
        )
        self.sessions_live = self._gauge(
            "app_sessions_live", "Sessions that can be refreshed, counted by the clean-up.", "livemostrecent"
        )
        self.admin_actions = self._counter(
            "app_admin_actions", "What administrators did.", "action", ADMIN_ACTIONS
        )
        self.hash_duration = Histogram(
            "app_password_hash_seconds",
            "Time to compute one password hash.",
            buckets=_HASH_BUCKETS,
            registry=self.registry,
        )
        self.hash_queue = self._gauge("app_password_hash_queue", "Requests that wait for their turn to hash.")
        self.hash_queue_limit = self._gauge(
            "app_password_hash_queue_limit", "Requests that may wait for their turn to hash."
        )
        self.hash_rejections = Counter(
            "app_password_hash_rejections", "Requests refused as that queue was full.", registry=self.registry
        )
        self.pool_in_use = self._gauge("app_database_pool_in_use", "Database connections in use.")
        self.pool_size = self._gauge("app_database_pool_size", "Database connections allowed.")
        self.pool_waiting = self._gauge(
            "app_database_pool_waiting", "Requests that wait for a thread to ask the database with."
        )
        self.database_errors = self._counter(
            "app_database_errors",
            "Statements and connections that failed.",
            "sqlstate_class",
            SQLSTATE_CLASSES,
        )
        build = Gauge(
            "app_build_info",
            "Always 1; what runs is in the labels.",
            ("version", "python"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        build.labels(version, platform.python_version()).set(1)

    def exposition(self) -> bytes:
        """Prometheus text format, version 0.0.4."""
        return generate_latest(self._exported)

    def _counter(self, name: str, text: str, label: str, label_values: Iterable[str]) -> Counter:
        counter = Counter(name, text, (label,), registry=self.registry)
        for value in label_values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, text: str, mode: Literal["livesum", "livemostrecent"] = _SUM) -> Gauge:
        return Gauge(name, text, registry=self.registry, multiprocess_mode=mode)


class _AllWorkers(Collector):
    """Counts of all workers, dead ones too; gauges of the living."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._worker.folder.glob("*.db") if self._counts(file)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call] # is untyped
        return merged

    def _counts(self, file: Path) -> bool:
        """Not where a worker that begins has just made it, or is about to remove it."""
        kind, _, place = file.stem.rpartition("_")
        try:
            if not file.stat().st_size:
                return False
        except FileNotFoundError:
            return False
        return not kind.startswith("gauge") or self._worker.is_alive(int(place))
