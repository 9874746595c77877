"""Which of several database hosts to ask, and in which order.

libpq goes on to the next host if one refuses, but not if one is silent. So a host that was silent lately is
asked last, and by one connection a second; the others pass over it.
"""

import os
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from app.database.silence import SILENT, Address

_TURN_SECONDS: Final = 1
_FORGET_SECONDS: Final = 10
_PARAMETERS: Final = ("host", "hostaddr", "port")

log = structlog.get_logger(__name__)

Host = dict[str, str]
"""What libpq needs to find one server: host, hostaddr, port."""


@dataclass(slots=True)
class _Known:
    """When a server was silent to somebody, when somebody was sent to see, and when it last answered."""

    silent: float = 0
    turn: float = 0
    heard: float = 0


_known: Final[defaultdict[Address, _Known]] = defaultdict(_Known)


def hosts_of(parameters: Mapping[str, Any]) -> list[Host]:
    lists = {name: str(parameters[name]).split(",") for name in _PARAMETERS if name in parameters}
    number = max(map(len, lists.values()), default=0)
    return [
        {name: values[index if len(values) > 1 else 0] for name, values in lists.items()}
        for index in range(number)
    ]


def joined(hosts: list[Host]) -> Host:
    return {name: ",".join(host[name] for host in hosts) for name in (hosts[0] if hosts else ())}


def address(host: Host) -> Address:
    """Where libpq connects to: `hostaddr`, whose name may be one that only a certificate knows."""
    return Address(host.get("hostaddr") or host.get("host", ""), int(host.get("port") or 5432))


def address_of(connection: Any) -> Address:
    """Of an open connection, or the one that is being tried."""
    named = Address(connection.info.host or "", connection.info.port)
    servers = [
        address(host)
        for host in hosts_of(connection.info.dsn_parameters)
        if host.get("hostaddr") and named == address({**host, "hostaddr": host.get("host", "")})
    ]
    if len(servers) > 1:  # of one name
        peer = _peer(connection.fileno())
        servers = [server for server in servers if server.host == peer] or servers
    return servers[0] if servers else named


def _peer(descriptor: int) -> str:
    """Empty while it is being connected."""
    with socket.socket(fileno=os.dup(descriptor)) as copy, suppress(OSError):
        return str(copy.getpeername()[0])
    return ""


def worth_asking(hosts: list[Host]) -> list[Host]:
    """At least one. Those that may answer come first."""
    now = time.time()
    first, last = [], []
    for host in hosts:
        server = address(host)
        known = _known[server]
        silent = max(known.silent, SILENT.get(server, 0))
        if not silent:
            first.append(host)
        elif silent < now - _FORGET_SECONDS or known.turn < now - _TURN_SECONDS:
            known.turn = now
            last.append(host)
    return [*first, *last] or hosts


def silent(server: Address, since: float) -> None:
    """It said nothing to a connection that began then."""
    known = _known[server]
    if known.heard > since:
        return
    if not known.silent:
        log.warning("database.silent", address=f"{server.host}:{server.port}")
    known.silent = time.time()


def heard(hosts: list[Host], last: Address | None = None) -> None:
    """They answered, if only to refuse; with `last`, those up to it."""
    for host in hosts:
        server = address(host)
        SILENT.pop(server, None)
        _known[server] = _Known(heard=time.time())
        if server == last:
            return
