"""Where blocking work runs, beside the event loop."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import ParamSpec, TypeVar

from prometheus_client import Gauge

from app.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A fixed number of threads; who waits for one holds nothing else.

    Few threads that wait on I/O do more than many that wait for the interpreter's lock, and a third
    of what each request would pay for a turn in AnyIO's pool.
    """

    def __init__(
        self,
        number: int,
        name: str,
        *,
        patience_seconds: float,
        waiting: Gauge | None = None,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self._number = number
        self.admitted = 0  # those that run and those that wait
        self._waiting = waiting
        self._patience = patience_seconds
        self._make: Callable[[], ThreadPoolExecutor] = lambda: ThreadPoolExecutor(
            number, name, initializer=initializer
        )
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls it with the context of the request.

        Raises Unavailable when no thread was free in time.
        """
        if self._executor is None:
            self._executor = self._make()
        context = contextvars.copy_context()
        deadline = monotonic() + self._patience

        def call() -> T:
            if monotonic() > deadline:
                raise Unavailable
            return context.run(work, *args, **kwargs)

        self._count(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        before = self.admitted
        self.admitted += change
        if self._waiting is not None and max(before, self.admitted) > self._number:
            self._waiting.set(max(0, self.admitted - self._number))

    def close(self) -> None:
        """Until the next `run`."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None
