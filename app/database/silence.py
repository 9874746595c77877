"""Tells a server that is slow from one that says nothing any more, as it is frozen or cut off."""

import asyncio
import struct
import time
from contextlib import closing
from typing import Final, NamedTuple

import structlog

ANSWER_SECONDS: Final = 1
_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)  # PostgreSQL documentation, Message Formats

log = structlog.get_logger(__name__)


class Address(NamedTuple):
    """`host` is an address, a name, or the folder of a Unix socket; empty if libpq chooses."""

    host: str
    port: int


SILENT: Final[dict[Address, float]] = {}
"""Servers that left a statement without an answer, and a newcomer too: when that was found."""

_asking: Final[dict[tuple[asyncio.AbstractEventLoop, Address], asyncio.Task[bool]]] = {}


async def answers(server: Address) -> bool:
    """Whether it says anything to a newcomer. Those who ask at the same time share the answer."""
    key = asyncio.get_running_loop(), server
    if (asking := _asking.get(key)) is None:
        asking = _asking[key] = key[0].create_task(_ask(server))
        asking.add_done_callback(lambda _: _asking.pop(key))
    return await asyncio.shield(asking)


async def _ask(server: Address) -> bool:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await _connect(server)
            with closing(writer):
                writer.write(_SSL_REQUEST)
                if await reader.read(1):
                    return True
    except OSError:
        pass
    if server not in SILENT:
        log.warning("database.silent", address=f"{server.host}:{server.port}")
    SILENT[server] = time.time()
    return False


async def _connect(server: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.host.startswith("/"):
        return await asyncio.open_unix_connection(f"{server.host}/.s.PGSQL.{server.port}")
    return await asyncio.open_connection(server.host or "localhost", server.port)
