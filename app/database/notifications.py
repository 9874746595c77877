"""PostgreSQL's notifications (LISTEN), on a connection of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg2
from sqlalchemy import Engine

from app.database.poolers import is_pooled
from app.greenlets import run_in_greenlet


@asynccontextmanager
async def listening(engine: Engine, channel: str, notified: asyncio.Event) -> AsyncIterator[asyncio.Event]:
    """Sets `notified` at each notification. Yields an event that is set when the connection is lost.

    Takes the connection out of the engine's pool. Raises SQLAlchemyError or psycopg2.Error, of which
    NotSupportedError is for good.
    """
    connection = await run_in_greenlet(_listen, engine, channel)
    lost, loop, descriptor = asyncio.Event(), asyncio.get_running_loop(), connection.fileno()

    def read() -> None:
        try:
            connection.poll()
        except psycopg2.Error:
            loop.remove_reader(descriptor)
            lost.set()
        connection.notifies.clear()
        notified.set()

    loop.add_reader(descriptor, read)
    try:
        yield lost
    finally:
        loop.remove_reader(descriptor)
        connection.close()


def _listen(engine: Engine, channel: str) -> Any:
    pooled = engine.raw_connection()
    connection: Any = pooled.dbapi_connection
    if is_pooled(connection):
        pooled.invalidate()
        raise psycopg2.NotSupportedError("a pooler passes no notifications on; set DATABASE_DIRECT_URL")
    pooled.detach()
    connection.cursor().execute(f"LISTEN {channel}")
    return connection
