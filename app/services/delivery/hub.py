"""Hands new revocations to the listeners of one worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import structlog
from prometheus_client import Gauge
from psycopg2 import NotSupportedError
from sqlalchemy import Engine

from app.database.failures import DATABASE_ERRORS, describe
from app.database.notifications import listening
from app.errors import CursorExpired, Unavailable
from app.greenlets import run_in_greenlet
from app.services.delivery.revocations import CHANNEL, RevocationFeed, RevocationItem, RevocationPage

HEARTBEAT_SECONDS: Final = 15
_POLL_SECONDS: Final = 1
_RECONNECT_SECONDS: Final = 5
_PAGE: Final = 100
_BACKLOG: Final = 200  # batches

log = structlog.get_logger(__name__)

Batch = tuple[RevocationItem, ...]
"""What was published together; the same object for all listeners."""
_Queue = asyncio.Queue[Batch | None]


class RevocationHub:
    """Reads the feed once for all listeners: at each notification, and every second in case one is lost.

    A listener may get an item twice, and misses none.
    """

    def __init__(self, feed: RevocationFeed, direct: Engine, listeners: Gauge) -> None:
        """`direct` leads past any pooler, so that notifications come."""
        self._feed, self._direct = feed, direct
        self._gauge = listeners
        self._queues: set[_Queue] = set()
        self._cursor: str | None = None
        self._notified, self._wanted = asyncio.Event(), asyncio.Event()
        self._closed = False
        self._turn = asyncio.Lock()

    async def open(self, after: str | None) -> AsyncIterator[Batch]:
        """Batches of items from `after` on, and an empty one every `HEARTBEAT_SECONDS` without any.

        Raises InvalidCursor, CursorExpired, DatabaseUnavailable; the iterator just ends in such a case.
        """
        return self._follow(await self._page(after, _PAGE))

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

    async def _follow(self, page: RevocationPage) -> AsyncIterator[Batch]:
        queue: _Queue = asyncio.Queue(_BACKLOG)
        await self._join(queue)
        try:
            async for batch in self._catch_up(page):
                yield batch
            while not self._closed:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        news = await queue.get()
                except TimeoutError:
                    yield ()
                    continue
                if news is None:
                    return
                yield news
        finally:
            self._queues.discard(queue)
            self._gauge.dec()

    async def _join(self, queue: _Queue) -> None:
        if not self._queues:
            head = (await self._page(None, 0)).cursor
            if not self._queues:  # nobody else has joined meanwhile
                self._cursor = head
        self._queues.add(queue)
        self._wanted.set()
        self._gauge.inc()

    async def _catch_up(self, page: RevocationPage) -> AsyncIterator[Batch]:
        """`page` was read before this listener had its queue, so that at least one more has to be read."""
        unread = True
        while unread and not self._closed:
            if page.items:
                yield tuple(page.items)
            page = await self._page(page.cursor, _PAGE)
            unread = bool(page.items) or page.has_more

    async def _page(self, after: str | None, limit: int) -> RevocationPage:
        """One listener at a time, so that many of them leave the connections to others."""
        async with self._turn:
            return await run_in_greenlet(self._feed.page, after, limit)

    async def _read(self) -> None:
        try:
            has_more = True
            while has_more:
                page = await run_in_greenlet(self._feed.page, self._cursor, _PAGE)
                self._cursor, has_more = page.cursor, page.has_more
                if page.items:
                    self._publish(tuple(page.items))
                    await asyncio.sleep(0)  # other requests have their turn between pages
        except CursorExpired:  # they start over
            for queue in list(self._queues):
                self._end(queue)
        except Unavailable as error:
            log.warning("revocations.postponed", reason=getattr(error, "reason", error.code))
        except Exception:
            log.exception("revocations.failed")

    def _publish(self, batch: Batch) -> None:
        for queue in list(self._queues):
            if queue.full():  # too slow; it goes on from its last cursor
                self._end(queue)
            else:
                queue.put_nowait(batch)

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
                async with listening(self._direct, CHANNEL, self._notified) as lost:
                    await lost.wait()
            except DATABASE_ERRORS as error:
                log.warning("revocations.polling", reason=describe(error))
                if isinstance(error, NotSupportedError):
                    return
            await asyncio.sleep(_RECONNECT_SECONDS)
