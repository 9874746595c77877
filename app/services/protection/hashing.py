"""Hashes passwords in a separate thread pool with a bounded queue."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from app.errors import HashingQueueFull
from app.greenlets import await_, in_greenlet
from app.security.passwords import PasswordHasher, normalize_password
from app.telemetry.metrics import HashingMetrics

QUEUE_PER_THREAD: Final = 25  # with 12 rounds, the last request in the queue waits about 7 s
_NICENESS = 13

P = ParamSpec("P")
T = TypeVar("T")


class HashingPool:
    """Hashes and verifies passwords, at most one per core at a time.

    A request in the queue holds neither a thread nor a database connection. On Linux the threads have a
    lower priority than other threads, so that a queue of logins does not slow down other requests. The
    methods that hash raise HashingQueueFull immediately if the queue is full.
    """

    def __init__(self, hasher: PasswordHasher, metrics: HashingMetrics, *, workers: int) -> None:
        self._hasher = hasher
        self._metrics = metrics
        self.size = max(1, _cores() // workers)
        self.limit = self.size * (1 + QUEUE_PER_THREAD)
        self.in_flight = 0
        self._executor: ThreadPoolExecutor | None = None
        metrics.queue_limit.set(self.size * QUEUE_PER_THREAD)

    def hash(self, password: str) -> str:
        return self._run(self._hasher.hash, normalize_password(password))

    def verify(self, password: str, hashed: str | None) -> bool:
        """Takes as long without a hash as with one, unless the hash costs more than ours."""
        return self._run(self._hasher.verify, normalize_password(password), hashed)

    def rehash_if_needed(self, password: str, hashed: str) -> str | None:
        """A new hash if `hashed` is outdated, otherwise None. The password must already be verified."""
        outdated = self._hasher.needs_rehash(normalize_password(password), hashed)
        return self.hash(password) if outdated else None

    def problem_with(self, hashed: str) -> str | None:
        """Why a hash from another table cannot be imported, if it cannot."""
        cost = self._hasher.cost_of(hashed)
        if cost is None:
            return "is no bcrypt hash"
        if cost > self._hasher.highest_cost:
            return f"has the cost {cost}, and {self._hasher.highest_cost} is the highest"
        return None

    def close(self) -> None:
        """The pool starts again on its next use."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not in_greenlet():
            return self._timed(work, *args, **kwargs)
        if self.in_flight >= self.limit:
            self._metrics.rejections.inc()
            raise HashingQueueFull
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.size, "hashing", initializer=_lower_priority)
        self._count(1)
        try:
            loop = asyncio.get_running_loop()
            return await_(loop.run_in_executor(self._executor, lambda: self._timed(work, *args, **kwargs)))
        finally:
            self._count(-1)

    def _timed(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._metrics.duration.time():
            return work(*args, **kwargs)

    def _count(self, change: int) -> None:
        self.in_flight += change
        self._metrics.queue.set(max(0, self.in_flight - self.size))


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lower_priority() -> None:
    if sys.platform == "linux":  # on other systems, threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
