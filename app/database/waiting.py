"""Waits for PostgreSQL, always with a timeout: in a greenlet on the event loop, otherwise with poll()."""

import asyncio
import os
import select
import socket
import time
from typing import Final

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, STATUS_SETUP, connection
from psycopg2.extras import wait_select

from app.database.hosts import address_of
from app.database.poolers import is_pooled
from app.database.readiness import readiness, settle
from app.database.silence import Address, answers
from app.greenlets import await_, in_greenlet

CONNECT_TIMEOUT_SECONDS: Final = 2
STATEMENT_TIMEOUT_SECONDS: Final = 5
# Longer than statement_timeout: for a slow statement the server's error arrives first.
SILENCE_TIMEOUT_SECONDS: Final = STATEMENT_TIMEOUT_SECONDS + 2
# Then a statement asks whether its server is still there.
_DOUBT_SECONDS: Final = 1


class ServerSilent(psycopg2.OperationalError):
    """The server accepted the connection or the statement, but did not answer in time."""

    def __init__(self, server: Address) -> None:
        super().__init__(f"the database at {server.host}:{server.port} does not answer")
        self.server = server


class StatementUnfinished(psycopg2.OperationalError):
    """The server answers others, but did not finish this statement in time.

    `socket` becomes readable when it has. `since` in seconds since 1970.
    """

    def __init__(self, connection: connection) -> None:
        super().__init__("the database did not finish a statement in time")
        descriptor = connection.fileno()
        self.socket = socket.socket(fileno=os.dup(descriptor))
        self.server = address_of(connection)
        self.is_pooled = is_pooled(connection)
        self.since = time.time()
        # psycopg2 is about to say goodbye, upon which a pooler would believe its server to be free.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), descriptor, inheritable=False)


def wait_for_server(connection: connection) -> None:
    """psycopg2's wait callback, because libpq itself has no timeout for a server that hangs.

    Raises ServerSilent and StatementUnfinished. After any exception, also a cancellation, the connection is
    closed.
    """
    connecting = connection.status == STATUS_SETUP
    seconds = CONNECT_TIMEOUT_SECONDS if connecting else SILENCE_TIMEOUT_SECONDS
    wait = _wait_on_event_loop if in_greenlet() else _wait_here
    try:
        while (state := connection.poll()) != POLL_OK:
            direction = select.POLLIN if state == POLL_READ else select.POLLOUT
            if not wait(connection, direction, seconds):
                raise ServerSilent(address_of(connection))
    except BaseException:
        if connecting:  # psycopg2 would not close it before the garbage collector comes by
            connection.close()
        raise


def wait_as_long_as_it_takes(connection: connection) -> None:
    """A wait callback for migrations. Unlike libpq's own wait, signals interrupt it."""
    if connection.status == STATUS_SETUP:
        wait_for_server(connection)
    else:
        wait_select(connection)


def is_ready(descriptor: int, direction: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, direction)
    return bool(poll.poll(seconds * 1000))


def _wait_here(connection: connection, direction: int, seconds: float) -> bool:
    return is_ready(connection.fileno(), direction, seconds)


def _wait_on_event_loop(connection: connection, direction: int, seconds: float) -> bool:
    """Gives up early if the server says nothing to others either. Raises StatementUnfinished."""
    descriptor = connection.fileno()
    while not _becomes_ready(descriptor, direction, min(seconds, _DOUBT_SECONDS)):
        seconds -= _DOUBT_SECONDS
        if seconds <= 0:
            raise StatementUnfinished(connection)
        if not await_(answers(address_of(connection))):
            return is_ready(descriptor, direction, 0)
    return True


def _becomes_ready(descriptor: int, direction: int, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[bool] = loop.create_future()
    timer = loop.call_later(seconds, settle, ready, False)  # noqa: FBT003 — the future's result
    sockets = readiness()
    sockets.tell(descriptor, direction, ready)
    try:
        return await_(ready)
    finally:
        sockets.forget(descriptor)
        timer.cancel()
