"""A few threads that hash, and the queue before them."""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil
from typing import Any, Final, TypeVar

from app.errors import ClientLeft, HashingQueueFull
from app.greenlets import unless_client_leaves
from app.services.protection.fair_queue import FairQueue
from app.services.protection.turns import Turn
from app.telemetry.metrics import HashingMetrics

QUEUE_PER_SLOT: Final = 25  # with 12 rounds, the last request in the queue waits about 7 s
_FIRST_GUESS_SECONDS: Final = 0.3
_MEMORY: Final = 0.1  # the weight of the newest hash in the average
_NICENESS = 13

T = TypeVar("T")
Place = asyncio.Future[bool]
"""Its result: whether there is a slot for it now, or no place in the queue any more."""


class HashingSlots:
    """Each slot is a thread, on Linux with a lower priority than all others.

    A slot is taken until its hash has ended, even if nobody waits for it any more.
    """

    def __init__(self, size: int, metrics: HashingMetrics) -> None:
        self.size = size
        self.queue: FairQueue[Place] = FairQueue(size * QUEUE_PER_SLOT)
        self.taken = 0
        self.threads: ThreadPoolExecutor | None = None
        self.seconds = _FIRST_GUESS_SECONDS  # of one hash, lately
        self._metrics = metrics
        metrics.queue_limit.set(self.queue.limit)

    async def run(self, turn: Turn, work: Callable[[], T]) -> T:
        """Raises HashingQueueFull, ClientLeft; both only before the work begins."""
        await self._take(turn)
        try:
            working = self._start(work)
        except BaseException:
            self._give_back()
            raise
        return await asyncio.shield(working)

    def close(self) -> None:
        """The threads start again on their next use."""
        if self.threads is not None:
            self.threads.shutdown(cancel_futures=True)
            self.threads = None

    def _start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self.threads is None:
            self.threads = ThreadPoolExecutor(self.size, "hashing", initializer=_lower_priority)
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self.threads, work)
        working.add_done_callback(partial(self._learn, loop.time()))
        return working

    async def _take(self, turn: Turn) -> None:
        place: Place = asyncio.get_running_loop().create_future()
        if (refused := self.queue.put(place, turn)) is not None:
            refused.set_result(False)
            self._metrics.rejections.inc()
        self._call_next()
        try:
            granted = await unless_client_leaves(place)
        except BaseException as error:
            self._leave(place)
            if isinstance(error, ClientLeft):
                self._metrics.abandoned.inc()
            raise
        if not granted:
            raise HashingQueueFull(self._retry_after())

    def _call_next(self) -> None:
        while self.taken < self.size and (place := self.queue.pop()) is not None:
            self.taken += 1
            place.set_result(True)
        self._show()

    def _leave(self, place: Place) -> None:
        if not place.done():
            self.queue.remove(place)
            self._show()
        elif place.result():
            self._give_back()

    def _give_back(self) -> None:
        self.taken -= 1
        self._call_next()

    def _learn(self, begin: float, working: asyncio.Future[Any]) -> None:
        self.seconds += _MEMORY * (working.get_loop().time() - begin - self.seconds)
        self._give_back()

    def _retry_after(self) -> int:
        """In seconds: until all that wait now have hashed."""
        return ceil((len(self.queue) + 1) * self.seconds / self.size)

    def _show(self) -> None:
        self._metrics.queue.set(len(self.queue))
        for lane, length in self.queue.lengths().items():
            self._metrics.waiting.labels(lane).set(length)


def _lower_priority() -> None:
    if sys.platform == "linux":  # on other systems, threads have no priority of their own
        os.nice(_NICENESS)  # on Linux of this thread alone; it may always be lowered
