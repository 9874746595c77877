"""Lets plain `def` code wait on the event loop.

The services are ordinary functions. In the web server each call runs in a greenlet: while it waits for
the database or for a hash, the event loop handles other requests. At the command line there is no event
loop, and the same code blocks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from sqlalchemy.util.concurrency import await_, greenlet_spawn, in_greenlet

from app.errors import ClientLeft

__all__ = [
    "CLIENT_LEAVES",
    "as_coroutine_function",
    "await_",
    "in_greenlet",
    "pause",
    "run_beside",
    "run_in_greenlet",
    "unless_client_leaves",
]

P = ParamSpec("P")
T = TypeVar("T")
_beside: Final[set[asyncio.Task[object]]] = set()
"""The event loop itself does not keep them."""

_spawn: Callable[..., Awaitable[Any]] = greenlet_spawn


async def run_in_greenlet(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `work` in a greenlet of the running event loop, and return its result."""
    result: T = await _spawn(work, *args, **kwargs)
    return result


def as_coroutine_function(work: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap `work` in a coroutine function that runs it in a greenlet."""

    @wraps(work)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await _spawn(work, *args, **kwargs)
        return result

    return run


def pause(seconds: float) -> None:
    if in_greenlet():
        await_(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def run_beside(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """In a greenlet of its own that nobody waits for; without an event loop, here and now."""
    if not in_greenlet():
        work(*args, **kwargs)
        return
    task = asyncio.get_running_loop().create_task(run_in_greenlet(work, *args, **kwargs))
    _beside.add(task)
    task.add_done_callback(_beside.discard)


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


CLIENT_LEAVES: ContextVar[Callable[[], Coroutine[Any, Any, None]]] = ContextVar(
    "client_leaves", default=_never
)
"""Waits until the client of this request has left."""


async def unless_client_leaves(future: asyncio.Future[T]) -> T:
    """The result of `future`, which is never cancelled. Raises ClientLeft."""
    leaving = asyncio.create_task(CLIENT_LEAVES.get()())
    try:
        await asyncio.wait((future, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            raise ClientLeft
        return future.result()
    finally:
        leaving.cancel()
