"""Background tasks of a worker process."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

import structlog

from app.container import Container
from app.errors import Unavailable
from app.greenlets import run_in_greenlet

_KEY_SECONDS: Final = 2
_BOOTSTRAP_SECONDS: Final = 5

log = structlog.get_logger(__name__)


async def attempt(name: str, work: Callable[[], object]) -> bool:
    """Call `work` in a greenlet. Exceptions are only logged. Returns whether there was none."""
    try:
        await run_in_greenlet(work)
    except Unavailable as error:
        event = f"{name}.postponed"
        log.warning(event, reason=getattr(error, "reason", error.code))
    except Exception:
        event = f"{name}.failed"
        log.exception(event)
    else:
        return True
    return False


async def every(seconds: float, name: str, work: Callable[[], object]) -> None:
    """Attempt `work` again and again, with a pause of `seconds`, until cancelled."""
    while True:
        await attempt(name, work)
        await asyncio.sleep(seconds)


async def once(seconds: float, name: str, work: Callable[[], object]) -> None:
    """Attempt `work` with a pause of `seconds` before each time, until it is done."""
    done = False
    while not done:
        await asyncio.sleep(seconds)
        done = await attempt(name, work)


def _start(
    container: Container, each_second: Callable[[], object], *, bootstrapped: bool
) -> list[asyncio.Task[None]]:
    works = [every(1, "connections", each_second), every(_KEY_SECONDS, "keys", container.key_upkeep.run)]
    if not bootstrapped:
        works.append(once(_BOOTSTRAP_SECONDS, "bootstrap", container.bootstrap.run))
    if seconds := container.settings.cleanup_interval_seconds:
        works.append(every(seconds, "cleanup", container.cleanup.sweep))
    works.append(container.revocation_hub.run())
    if container.mail_sender is not None:
        works.append(container.mail_sender.run())
    return [asyncio.create_task(work) for work in works]


def lifespan_of(
    container: Container, each_second: Callable[[], object], state: dict[str, Any]
) -> Callable[[object], AbstractAsyncContextManager[dict[str, Any]]]:
    """Starts the background tasks; at shutdown cancels them and closes the container.

    `state` is what the server gives to its connections and requests.
    """

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[dict[str, Any]]:
        # The objects that exist now are never freed. Without them, a full collection takes 60 ms less.
        gc.collect()
        gc.freeze()
        # Before the first request:
        await attempt("keys", container.key_upkeep.run)
        bootstrapped = await attempt("bootstrap", container.bootstrap.run)
        tasks = _start(container, each_second, bootstrapped=bootstrapped)
        yield state
        container.revocation_hub.close()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        container.close()

    return lifespan
