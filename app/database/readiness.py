"""Tells greenlets when the database's sockets are ready.

uvloop needs eight system calls to add a reader and to remove it. Here one asks for an event, and one hears of
all that have come. Who closes a descriptor need not say so, and what nobody waits for wakes nobody.
"""

import asyncio
import select
import threading
from contextlib import suppress

_here = threading.local()


class Readiness:
    """Of the sockets that one event loop waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        loop.add_reader(self._epoll.fileno(), self._hear)

    def tell(self, descriptor: int, direction: int, ready: asyncio.Future[bool]) -> None:
        """`direction` is POLLIN or POLLOUT."""
        self._waiting[descriptor] = ready
        events = direction | select.EPOLLONESHOT
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:
            self._epoll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """If nothing was told yet."""
        if self._waiting.pop(descriptor, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    def _hear(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            if (ready := self._waiting.pop(descriptor, None)) is not None:
                settle(ready, True)  # noqa: FBT003 — the future's result


class _Elsewhere(Readiness):
    """Where there is no epoll, by the event loop itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def tell(self, descriptor: int, direction: int, ready: asyncio.Future[bool]) -> None:
        add = self._loop.add_reader if direction == select.POLLIN else self._loop.add_writer
        add(descriptor, settle, ready, True)  # noqa: FBT003 — the future's result

    def forget(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        self._loop.remove_writer(descriptor)


def settle(ready: asyncio.Future[bool], value: bool) -> None:  # noqa: FBT001 — the future's result
    if not ready.done():
        ready.set_result(value)


def readiness() -> Readiness:
    """That of the event loop that runs in this thread."""
    loop = asyncio.get_running_loop()
    if getattr(_here, "loop", None) is not loop:
        _here.loop = loop
        _here.readiness = (Readiness if hasattr(select, "epoll") else _Elsewhere)(loop)
    of_this_loop: Readiness = _here.readiness
    return of_this_loop
