"""What never becomes a request: heads without end, and connections that say or read nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

from benchmarks.attack.table import Row, at_most
from benchmarks.attack.target import MIB, Start, Target, watched

_SECONDS = 4
_P99_MS = 250
_RSS_MIB = 30
_REQUEST = b"POST /api/v1/token HTTP/1.1\r\nHost: x\r\n"
_HEAD = _REQUEST + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"
_LARGE = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20


def attack(start: Start) -> Iterator[Row]:
    for name, perform in ATTACKS.items():
        with start() as target:
            before = target.memory_mib()
            with watched(target) as health:
                perform(target)
            grown = max(peak - before[pid] for pid, peak in target.peaks_mib().items())
            yield at_most(name, "p99 of `/health/live`", health.p99_ms, _P99_MS, " ms")
            yield at_most(name, "its unanswered requests", health.failed, 0)
            yield at_most(name, "growth of a worker's memory, at its peak", grown, _RSS_MIB, " MiB")


def send_without_end(size: int, chunk: bytes) -> Callable[[Target], None]:
    """A head that has `size` bytes, unless the service stops it; then another one."""

    def perform(target: Target) -> None:
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            with target.connect() as connection, suppress(ConnectionError):
                connection.sendall(_REQUEST)
                for _ in range(size // len(chunk)):
                    connection.sendall(chunk)

    return perform


def hold(number: int, beginning: bytes = b"") -> Callable[[Target], None]:
    """Connections that send this and nothing more."""

    def perform(target: Target) -> None:
        with ExitStack() as open_ones:
            for _ in range(number):
                connection = open_ones.enter_context(target.connect())
                with suppress(ConnectionError):
                    connection.sendall(beginning)
            time.sleep(_SECONDS)

    return perform


ATTACKS = {
    "20 MiB of small headers": send_without_end(20 * MIB, b"a:b\r\n" * 2**14),
    "a header of 20 MiB": send_without_end(20 * MIB, b"a" * 2**16),
    "a header of 100 MiB": send_without_end(100 * MIB, b"a" * 2**16),
    "1,100 connections that say nothing": hold(1100),
    "500 connections with half a head": hold(500, _REQUEST),
    "500 connections with half a body": hold(500, _HEAD + b"username="),
    "40 connections that read none of their 30 MB": hold(40, _LARGE),
}
