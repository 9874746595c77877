"""Where blocking work runs, beside the event loop."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A fixed number of threads; who waits for one holds nothing.

    Few threads that wait on I/O do more than many that wait for the interpreter's lock, and a third
    of what each request would pay for a turn in AnyIO's pool.
    """

    def __init__(self, number: int, name: str, *, initializer: Callable[[], None] | None = None) -> None:
        self._executor = ThreadPoolExecutor(number, name, initializer=initializer)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls it with the context of the request."""
        context = contextvars.copy_context()

        def call() -> T:
            return context.run(work, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
