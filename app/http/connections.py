"""The open connections of a worker: how many there may be, how long they may take, and who was refused."""

import resource
from collections import Counter
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final, Protocol

import structlog

from app.setting_groups import HttpSettings
from app.telemetry.metrics import HttpMetrics

STATE_KEY: Final = "connections"
"""Where the server's state has the Connections of its worker."""
_REPORT_SECONDS: Final = 60
_OTHER_FILES: Final = 64
"""Descriptors for what is no connection: the database, metrics, the log, what is just being refused."""

log = structlog.get_logger(__name__)


class Connection(Protocol):
    deadline: float
    """On the clock of `Connections.now`, as is the next."""
    write_deadline: float
    """Until when the client has to take some of what it is sent."""

    def expire(self) -> None:
        """One of them has passed."""

    def retire(self) -> None:
        """The answer that is being given is the last one."""


class Connections:
    """`now` is in seconds and has any beginning.

    `end_streams` is called when the server shuts down, as it would wait for them.
    """

    draining = False
    """From SIGTERM on. Each answer is its connection's last, and readiness is 503."""

    def __init__(
        self,
        settings: HttpSettings,
        metrics: HttpMetrics,
        end_streams: Callable[[], object],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.timeout = settings.request_timeout_seconds
        self.end_streams = end_streams
        self.now = now
        self._drain_seconds = settings.drain_seconds
        self._drained_at = inf
        self._max_number = _affordable(settings.max_connections)
        self._metrics = metrics
        self._open: set[Connection] = set()
        self._refused: Counter[str] = Counter()
        self._reported: dict[str, float] = {}
        metrics.connections_limit.set(self._max_number)

    def admit(self, connection: Connection) -> bool:
        if len(self._open) >= self._max_number:
            self.count_refusal("connection_limit")
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        self._open.discard(connection)

    def drain(self) -> float:
        """Begins with the first call. Returns in how many seconds the server may stop."""
        if not self.draining:
            log.info("server.draining", seconds=self._drain_seconds, connections=len(self._open))
            self.draining = True
            self._drained_at = self.now() + self._drain_seconds
            for connection in self._open:
                connection.retire()
        return self._drained_at - self.now()

    def count_refusal(self, reason: str) -> None:
        """`reason` is one of HTTP_REFUSALS."""
        self._metrics.refusals.labels(reason).inc()
        self._refused[reason] += 1

    def sweep(self) -> None:
        """To be called each second: one clock for all costs less than a timer for each request."""
        self._metrics.connections.set(len(self._open))
        now = self.now()
        for connection in [each for each in self._open if min(each.deadline, each.write_deadline) <= now]:
            connection.expire()
        self._report(now)

    def _report(self, now: float) -> None:
        """At most one line a minute for each kind of refusal, with their number since the last one."""
        for reason, number in list(self._refused.items()):
            if now - self._reported.get(reason, -inf) >= _REPORT_SECONDS:
                log.warning("http.refused", reason=reason, number=number)
                self._reported[reason] = now
                del self._refused[reason]


def raise_file_limit(connections: int) -> None:
    """Allows this process, and those that it becomes or starts, so many connections, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _affordable(connections: int) -> int:
    """So many that other files can still be opened."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or connections + _OTHER_FILES <= files:
        return connections
    fewer = max(1, files - _OTHER_FILES)
    log.warning("connections.limited", max_connections=connections, open_files=files, number=fewer)
    return fewer
