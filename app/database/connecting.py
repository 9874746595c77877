"""How connections are opened: in time, with any of several hosts, and also through a pooler."""

import asyncio
from typing import Any

import psycopg2
import structlog
from sqlalchemy import URL
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from app.database.waiting import ServerSilent
from app.greenlets import await_, in_greenlet

log = structlog.get_logger(__name__)


class Connector:
    """Opens the connections of an engine, as its listener for `do_connect`.

    PgBouncer refuses the startup parameter `options`. The connections then go without it, and the timeouts
    of the database role apply.

    libpq goes on to the next host if one refuses, but not if it is silent. So that host's turn comes last
    from then on.
    """

    def __init__(self) -> None:
        self._with_options = True
        self._first = 0

    def __call__(
        self, dialect: Dialect, _record: ConnectionPoolEntry, args: list[Any], parameters: dict[str, Any]
    ) -> DBAPIConnection:
        if not self._with_options:
            parameters = _without_options(parameters)
        try:
            return self._open_any(dialect, args, parameters)
        except psycopg2.OperationalError as error:
            if "unsupported startup parameter" not in str(error):
                raise
        log.warning("database.options_refused", reason="a pooler: the timeouts of the role apply")
        self._with_options = False
        return self._open_any(dialect, args, _without_options(parameters))

    def _open_any(self, dialect: Dialect, args: list[Any], parameters: dict[str, Any]) -> DBAPIConnection:
        hosts = str(parameters.get("host", "")).split(",")
        for _ in hosts[1:]:
            first = self._first
            try:
                return _open(dialect, args, parameters | _rotated(parameters, first))
            except ServerSilent:
                if self._first == first:  # other connections may have found out, too
                    self._first = (first + 1) % len(hosts)
        return _open(dialect, args, parameters | _rotated(parameters, self._first))


def address(url: URL) -> str:
    """Where the database is, for operators."""
    parameters = url.get_dialect()().create_connect_args(url)[1]
    hosts, ports = (str(parameters.get(name, "")).split(",") for name in ("host", "port"))
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    return ", ".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=True))


def _without_options(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name != "options"}


def _rotated(parameters: dict[str, Any], by: int) -> dict[str, str]:
    """The lists among `parameters`, of one entry for each host."""
    lists = {
        name: str(parameters[name]).split(",") for name in ("host", "hostaddr", "port") if name in parameters
    }
    return {name: ",".join([*values[by:], *values[:by]]) for name, values in lists.items() if len(values) > 1}


def _open(dialect: Dialect, args: list[Any], parameters: dict[str, Any]) -> DBAPIConnection:
    """In a greenlet on a thread: libpq resolves the host name synchronously, which would block the loop."""
    if not in_greenlet():
        return dialect.connect(*args, **parameters)
    return await_(asyncio.to_thread(dialect.connect, *args, **parameters))
