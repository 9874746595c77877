"""Time and order: a clock that tests move, calls at the same moment, and waiting for what is to come."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Engine, text

PATIENCE_SECONDS = 120
"""So long a test waits for what has to come, on a machine as busy as may be. No promise depends on it."""

T = TypeVar("T")


class MovableClock:
    """Stands still until it is moved; starts on a whole second."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **duration: float) -> None:
        self.now += timedelta(**duration)


def eventually(condition: Callable[[], T], what: Callable[[], object] = lambda: "") -> T:
    """Wait until it is true, and give what it gave; `what` is said where it never is.

    It looks less often the longer it takes, as looking takes time from those it waits for.
    """
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.01
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never came: {what()}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.15)
    return found


def at_once(number: int, call: Any) -> list[Any]:
    """Call from so many threads, all let go at the same moment; gives the results."""
    gate = threading.Barrier(number)

    def wait_and_call(index: int) -> Any:
        gate.wait()
        return call(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(wait_and_call, range(number)))


def until_blocked(database: Engine, number: int = 1) -> None:
    """Return when so many of this database's connections wait for a lock that another one holds."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def are_blocked() -> bool:
        with database.connect() as connection:
            count: Any = connection.execute(waiting).scalar_one()
            return bool(count >= number)

    eventually(are_blocked, lambda: f"{number} that wait for a lock")
