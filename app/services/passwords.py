"""Hashing passwords without freezing anything else."""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from app.errors import HashingQueueFull, PasswordTooShort
from app.metrics import Metrics
from app.security.passwords import PasswordScheme, normalize_password
from app.services.threads import Threads

QUEUE_PER_SLOT: Final = 25  # at 12 rounds the last in the queue waits about 7 s
PATIENCE_SECONDS: Final = 30
_NICENESS = 10

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PasswordService:
    """`min_length` is in characters after normalization."""

    scheme: PasswordScheme
    min_length: int
    metrics: Metrics

    def check_new(self, password: str, field: str = "password") -> None:
        """Cheap, so that nobody waits in a queue to hear it. Raises PasswordTooShort."""
        if len(normalize_password(password)) < self.min_length:
            raise PasswordTooShort(self.min_length, field)

    def hash_new(self, password: str) -> str:
        """Raises PasswordTooShort."""
        self.check_new(password)
        return self._hash(password)

    def verify(self, password: str, hashed: str | None) -> bool:
        """Costs one hash, also when there is nothing to compare with."""
        with self.metrics.hash_duration.time():
            return self.scheme.verify(normalize_password(password), hashed)

    def renew(self, password: str, hashed: str) -> str | None:
        """A stronger hash of a password that was just verified, where `hashed` is an outdated one."""
        if not self.scheme.is_outdated(hashed):
            return None
        return self._hash(password)

    def _hash(self, password: str) -> str:
        with self.metrics.hash_duration.time():
            return self.scheme.hash(normalize_password(password))


class HashingFence:
    """Runs what hashes on threads of its own, one per core, behind a bounded queue.

    Who waits holds neither a worker thread nor a database connection. On Linux the threads yield
    to everything else that wants to run, so that logins in a queue slow nobody else down.
    """

    def __init__(self, *, workers: int, metrics: Metrics) -> None:
        self.slots = max(1, _cores() // workers)
        self._limit = self.slots * (1 + QUEUE_PER_SLOT)
        self._rejections = metrics.hash_rejections
        metrics.hash_queue_limit.set(self.slots * QUEUE_PER_SLOT)
        self._threads = Threads(
            self.slots,
            "hashing",
            patience_seconds=PATIENCE_SECONDS,
            waiting=metrics.hash_queue,
            initializer=_lower_priority,
        )

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises HashingQueueFull at once where waiting would take too long."""
        if self._threads.admitted >= self._limit:
            self._rejections.inc()
            raise HashingQueueFull
        return await self._threads.run(work, *args, **kwargs)

    def close(self) -> None:
        self._threads.close()


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere priorities belong to processes
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
