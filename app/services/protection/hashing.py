"""Hashes passwords on threads of their own, behind a fair and bounded queue."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from app.greenlets import await_, in_greenlet
from app.security.passwords import PasswordHasher, normalize_password
from app.services.protection.cores import usable_cores
from app.services.protection.hashing_slots import HashingSlots
from app.services.protection.turns import Turn
from app.telemetry.metrics import HashingMetrics

P = ParamSpec("P")
T = TypeVar("T")


class HashingPool:
    """Hashes and verifies passwords, at most one per core at a time.

    A request in the queue holds neither a thread nor a database connection. The methods that hash raise
    HashingQueueFull if the queue has no place for this turn, or no longer has one, and ClientLeft if the
    client leaves while it waits.
    """

    def __init__(self, hasher: PasswordHasher, metrics: HashingMetrics, *, workers: int) -> None:
        self._hasher = hasher
        self._metrics = metrics
        self.slots = HashingSlots(max(1, usable_cores() // workers), metrics)

    def hash(self, password: str, turn: Turn) -> str:
        return self._run(turn, self._hasher.hash, normalize_password(password))

    def verify(self, password: str, hashed: str | None, turn: Turn) -> bool:
        """Takes as long without a hash as with one, unless the hash costs more than ours."""
        return self._run(turn, self._hasher.verify, normalize_password(password), hashed)

    def rehash_if_needed(self, password: str, hashed: str, turn: Turn) -> str | None:
        """A new hash if `hashed` is outdated, otherwise None. The password must already be verified."""
        outdated = self._hasher.needs_rehash(normalize_password(password), hashed)
        return self.hash(password, turn) if outdated else None

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
        self.slots.close()

    def _run(self, turn: Turn, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not in_greenlet():
            return self._timed(work, *args, **kwargs)
        return await_(self.slots.run(turn, lambda: self._timed(work, *args, **kwargs)))

    def _timed(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._metrics.duration.time():
            return work(*args, **kwargs)
