"""How connections are opened: in time, with any of several hosts, and also through a pooler."""

import asyncio
import time
from functools import cache
from typing import Any

import psycopg2
import structlog
from sqlalchemy import URL
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from app.database import hosts, poolers
from app.database.waiting import ServerSilent
from app.greenlets import await_, in_greenlet

log = structlog.get_logger(__name__)


class Connector:
    """Opens the connections of an engine, as its listener for `do_connect`.

    A pooler refuses the startup parameter `options`, or loses it. The connections then go without it, and
    their cursors send it with each transaction.

    If a host is silent, the others are asked.
    """

    def __init__(self) -> None:
        self._pooled: bool | None = None

    def __call__(
        self, dialect: Dialect, _record: ConnectionPoolEntry, args: list[Any], parameters: dict[str, Any]
    ) -> DBAPIConnection:
        if self._pooled:
            return self._open_pooled(dialect, args, parameters)
        try:
            connection = self._open_any(dialect, args, parameters)
        except psycopg2.OperationalError as error:
            if not poolers.refuses_options(error):
                raise
            return self._open_pooled(dialect, args, parameters)
        options = str(parameters.get("options", ""))
        if self._pooled is None and options and poolers.ignores_options(connection, options):
            connection.close()
            return self._open_pooled(dialect, args, parameters)
        self._pooled = False
        return connection

    def _open_pooled(self, dialect: Dialect, args: list[Any], parameters: dict[str, Any]) -> DBAPIConnection:
        factory = poolers.limited(str(parameters.get("options", "")))
        parameters = _without_options(parameters) | {"cursor_factory": factory}
        connection = self._open_any(dialect, args, parameters)
        if not self._pooled:
            try:
                poolers.check_transactions(connection)
            except poolers.NoTransactions as error:
                warn_once(str(error))
                raise
            warn_once("it passes no options on: they go with each transaction")
        self._pooled = True
        return connection

    def _open_any(self, dialect: Dialect, args: list[Any], parameters: dict[str, Any]) -> DBAPIConnection:
        asked = hosts.worth_asking(hosts.hosts_of(parameters))
        while True:
            begin = time.time()
            try:
                connection = _open(dialect, args, parameters | hosts.joined(asked))
            except ServerSilent as error:
                hosts.silent(error.server, begin)
                left = [host for host in asked if hosts.address(host) != error.server]
                if not left or len(left) == len(asked):
                    raise
                asked = left
            except psycopg2.OperationalError:
                hosts.heard(asked)
                raise
            else:
                hosts.heard(asked, hosts.address_of(connection))
                return connection


@cache
def warn_once(reason: str) -> None:
    """Of the pooler: each engine of a process meets the same one."""
    log.warning("database.pooler", reason=reason)


def address(url: URL) -> str:
    """Where the database is, for operators."""
    parameters = url.get_dialect()().create_connect_args(url)[1]
    servers = map(hosts.address, hosts.hosts_of(parameters) or [{}])
    return ", ".join(f"{server.host}:{server.port}" for server in servers)


def _without_options(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name != "options"}


def _open(dialect: Dialect, args: list[Any], parameters: dict[str, Any]) -> DBAPIConnection:
    """In a greenlet on a thread: libpq resolves the host name synchronously, which would block the loop."""
    if not in_greenlet():
        return dialect.connect(*args, **parameters)
    return await_(asyncio.to_thread(dialect.connect, *args, **parameters))
