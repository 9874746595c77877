"""Hands new revocations to the listeners of one worker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

import structlog
from prometheus_client import Gauge

from app.database.failures import DATABASE_ERRORS, describe
from app.database.notifications import listening
from app.errors import CursorExpired, Unavailable
from app.greenlets import run_in_greenlet
from app.services.delivery.revocations import CHANNEL, RevocationFeed, RevocationItem, RevocationPage

HEARTBEAT_SECONDS: Final = 15
_POLL_SECONDS: Final = 1
_RECONNECT_SECONDS: Final = 5
_PAGE: Final = 500
_BACKLOG: Final = 2000

log = structlog.get_logger(__name__)

_Queue = asyncio.Queue[RevocationItem | None]


class RevocationHub:
    """Reads the feed once for all listeners: at each notification, and every second in case one is lost.

    A listener may get an item twice, and misses none.
    """

    def __init__(self, feed: RevocationFeed, listeners: Gauge) -> None:
        self._feed = feed
        self._gauge = listeners
        self._queues: set[_Queue] = set()
        self._cursor: str | None = None
        self._notified, self._wanted = asyncio.Event(), asyncio.Event()
        self._closed = False

    async def open(self, after: str | None) -> AsyncIterator[RevocationItem | None]:
        """Items from `after` on, and None every `HEARTBEAT_SECONDS` without one.

        Raises InvalidCursor, CursorExpired, DatabaseUnavailable; the iterator just ends in such a case.
        """
        first = await run_in_greenlet(self._feed.page, after, _PAGE)
        return self._follow(first)

    async def run(self) -> None:
        """Until cancelled."""
        connecting = asyncio.create_task(self._keep_listening())
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._notified.wait()
                self._notified.clear()
                if self._queues:
                    await self._read()
        finally:
            connecting.cancel()

    def close(self) -> None:
        """Ends all streams, so that the server can shut down."""
        self._closed = True
        for queue in list(self._queues):
            self._end(queue)

    async def _follow(self, page: RevocationPage) -> AsyncIterator[RevocationItem | None]:
        queue: _Queue = asyncio.Queue(_BACKLOG)
        if not self._queues:
            self._cursor = page.cursor  # no later than what this listener reads next
        self._queues.add(queue)
        self._wanted.set()
        self._gauge.inc()
        try:
            async for missed in self._catch_up(page):
                yield missed
            while not self._closed:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        item = await queue.get()
                except TimeoutError:
                    yield None
                    continue
                if item is None:
                    return
                yield item
        finally:
            self._queues.discard(queue)
            self._gauge.dec()

    async def _catch_up(self, page: RevocationPage) -> AsyncIterator[RevocationItem]:
        """`page` was read before this listener had its queue, so that at least one more has to be read."""
        unread = True
        while unread:
            for item in page.items:
                yield item
            page = await run_in_greenlet(self._feed.page, page.cursor, _PAGE)
            unread = bool(page.items) or page.has_more

    async def _read(self) -> None:
        try:
            has_more = True
            while has_more:
                page = await run_in_greenlet(self._feed.page, self._cursor, _PAGE)
                self._cursor, has_more = page.cursor, page.has_more
                for queue in list(self._queues):
                    self._put(queue, page.items)
        except CursorExpired:  # they start over
            for queue in list(self._queues):
                self._end(queue)
        except Unavailable as error:
            log.warning("revocations.postponed", reason=getattr(error, "reason", error.code))
        except Exception:
            log.exception("revocations.failed")

    def _put(self, queue: _Queue, items: Sequence[RevocationItem]) -> None:
        if queue.qsize() + len(items) > _BACKLOG:  # too slow; it goes on from its last cursor
            self._end(queue)
            return
        for item in items:
            queue.put_nowait(item)

    def _end(self, queue: _Queue) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _keep_listening(self) -> None:
        """From the first listener on. Without the connection, new revocations are found by polling."""
        await self._wanted.wait()
        while True:
            try:
                async with listening(self._feed.db.engine, CHANNEL, self._notified) as lost:
                    await lost.wait()
            except DATABASE_ERRORS as error:
                log.warning("revocations.polling", reason=describe(error))
            await asyncio.sleep(_RECONNECT_SECONDS)
