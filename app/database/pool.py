"""The pool of connections under the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool
from sqlalchemy.util.queue import AsyncAdaptedQueue, QueueCommon

from app.database.failures import NoTurn
from app.database.silence import SILENT
from app.database.waiting import StatementUnfinished
from app.greenlets import await_, run_in_greenlet
from app.telemetry.metrics import DatabaseMetrics

POOLER_SECONDS: Final = 60
"""So often a pooler is asked, as it may never learn that its server is gone."""

C = TypeVar("C", Connection, PoolProxiedConnection)


@dataclass(slots=True, eq=False)
class _Kept:
    """The place of a connection whose statement is unfinished."""

    statement: StatementUnfinished
    record: ConnectionPoolEntry
    timer: asyncio.TimerHandle | None = None
    asking: asyncio.Task[None] | None = None


class EventLoopPool(QueuePool):
    """A pool that waits for a free connection on the event loop, and that counts its connections.

    SQLAlchemy's asynchronous pool needs an asynchronous driver, but its queue works with any driver. That
    queue serves whoever asks at the right moment, so there are places before it: first come, first served.

    To close a connection does not end its statement: a commit that waits for a synchronous standby does not
    look at its socket. So an unfinished statement keeps its place until the server has answered; otherwise
    new connections would take its place until the server has no more.
    """

    _queue_class: type[QueueCommon[ConnectionPoolEntry]] = AsyncAdaptedQueue
    metrics: DatabaseMetrics | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: set[_Kept] = set()
        self._places = asyncio.Semaphore(self.size())

    def recreate(self) -> QueuePool:
        pool = super().recreate()
        assert isinstance(pool, EventLoopPool)
        pool.metrics = self.metrics
        return pool

    def dispose(self) -> None:
        for each in tuple(self._kept):
            self._end(each)
        super().dispose()

    def _do_get(self) -> ConnectionPoolEntry:
        for each in [each for each in self._kept if _is_lost(each.statement)] if self._kept else ():
            self._end(each)
        self.take(self._places, PoolTimeout, "all connections are in use")
        try:
            record = super()._do_get()
        except BaseException:
            self._places.release()
            raise
        if self.metrics is not None:
            self.metrics.pool_in_use.inc()
        return record

    def take(self, places: asyncio.Semaphore, error: type[PoolTimeout], reason: str) -> None:
        """Raises `error` where none becomes free in time."""
        await_(self._wait(places, error, reason) if places.locked() else places.acquire())

    async def _wait(self, places: asyncio.Semaphore, error: type[PoolTimeout], reason: str) -> None:
        with self.metrics.pool_waiting.track_inprogress() if self.metrics is not None else nullcontext():
            try:
                async with asyncio.timeout(self.timeout()):
                    await places.acquire()
            except TimeoutError:
                raise error(reason) from None

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        statement: StatementUnfinished | None = record.info.pop(StatementUnfinished, None)
        if statement is None:
            self._free(record)
            return
        loop = asyncio.get_running_loop()
        kept = _Kept(statement, record)
        if statement.is_pooled:
            kept.timer = loop.call_later(POOLER_SECONDS, self._doubt, kept)
        self._kept.add(kept)
        loop.add_reader(statement.socket, self._end, kept)

    def _doubt(self, kept: _Kept) -> None:
        kept.asking = asyncio.get_running_loop().create_task(run_in_greenlet(self._ask, kept))

    def _ask(self, kept: _Kept) -> None:
        """It ends if the pooler has no answer for others either."""
        try:
            with closing(self.connect()) as connection:
                connection.cursor().execute("SELECT 1")
        except (psycopg2.Error, PoolTimeout) as error:
            answers = False
            if isinstance(error, StatementUnfinished):
                error.socket.close()
        else:
            answers = True
        if kept not in self._kept:
            return
        if answers:
            kept.timer = asyncio.get_running_loop().call_later(POOLER_SECONDS, self._doubt, kept)
        else:
            self._end(kept)

    def _end(self, kept: _Kept) -> None:
        """Whatever the server answered, nobody waits for it any more."""
        self._kept.remove(kept)
        if kept.timer is not None:
            kept.timer.cancel()
        asyncio.get_running_loop().remove_reader(kept.statement.socket)
        kept.statement.socket.close()
        self._free(kept.record)

    def _free(self, record: ConnectionPoolEntry) -> None:
        if (turns := (record.record_info or {}).pop(WriteTurns, None)) is not None:
            turns.release()
        if self.metrics is not None:
            self.metrics.pool_in_use.dec()
        super()._do_return_conn(record)
        self._places.release()


class WriteTurns:
    """Writes may wait for a lock or a standby, so they leave an eighth of a pool to reads, one at least."""

    def __init__(self, pool: EventLoopPool) -> None:
        self._pool = pool
        self._turns = asyncio.Semaphore(pool.size() - (pool.size() // 8 or 1))

    def check_out(self, connect: Callable[[], C]) -> C:
        """What `connect` gives. The turn ends when it is free again. Raises NoTurn."""
        self._pool.take(self._turns, NoTurn, "as many connections as may write are in use")
        try:
            connection = connect()
        except BaseException:
            self._turns.release()
            raise
        pooled = connection.connection if isinstance(connection, Connection) else connection
        assert pooled.record_info is not None
        pooled.record_info[WriteTurns] = self._turns
        return connection


def _is_lost(statement: StatementUnfinished) -> bool:
    """Whether its server has been silent since, and so may never answer."""
    return SILENT.get(statement.server, 0) > statement.since


def note_unfinished(_connection: DBAPIConnection, record: ConnectionPoolEntry, error: object) -> None:
    """Listens to "invalidate"."""
    if isinstance(error, StatementUnfinished):
        record.info[StatementUnfinished] = error
