"""An HTTP client that is not the bottleneck: keep-alive connections that send prebuilt bytes."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles
from time import perf_counter
from typing import cast

Request = Callable[[bytes], bytes]
"""Builds the next request from the body of the previous response (empty at first)."""


@dataclass
class Result:
    seconds: float
    latencies: list[float] = field(default_factory=list)  # in seconds
    refused: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p50(self) -> float:
        return quantiles(self.latencies, n=100)[49] * 1000

    @property
    def p99(self) -> float:
        return quantiles(self.latencies, n=100)[98] * 1000


class _Connection(asyncio.Protocol):
    def __init__(self, request: Request, until: float, result: Result, pause: float) -> None:
        self.request, self.until, self.result, self.pause = request, until, result, pause
        self.buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send(b"")

    def _send(self, body: bytes) -> None:
        if perf_counter() >= self.until:
            self.transport.close()
            self.done.set_result(None)
            return
        self.sent = perf_counter()
        self.transport.write(self.request(body))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.split(b"content-length: ")[1].split(b"\r\n")[0]):
            return
        self.buffer = b""
        if head.startswith(b"HTTP/1.1 200"):
            self.result.latencies.append(perf_counter() - self.sent)
        else:
            self.result.refused += 1
        if self.pause:
            asyncio.get_running_loop().call_later(self.pause, self._send, body)
        else:
            self._send(body)


async def drive(port: int, requests: list[Request], seconds: float, pause: float = 0) -> Result:
    """One connection per item of `requests`, busy for `seconds`, with `pause` seconds between requests."""
    result = Result(seconds)
    until = perf_counter() + seconds
    loop = asyncio.get_running_loop()

    async def connect(request: Request) -> _Connection:
        def make() -> _Connection:
            return _Connection(request, until, result, pause)

        return (await loop.create_connection(make, "127.0.0.1", port))[1]

    connections = [await connect(request) for request in requests]
    await asyncio.gather(*(connection.done for connection in connections))
    return result


def get(path: str, bearer: str = "") -> Request:
    authorization = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n{authorization}\r\n".encode()
    return lambda _: request


def log_in(email: str, password: str) -> Request:
    body = f"username={email}&password={password}".encode()
    request = (
        b"POST /api/v1/token HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return lambda _: request


def refresh(token: str) -> Request:
    """Sends the refresh token of the previous response, and `token` at first."""

    def make(answer: bytes) -> bytes:
        body = json.dumps(
            {"refresh_token": json.loads(answer)["refresh_token"] if answer else token}
        ).encode()
        return (
            b"POST /api/v1/refresh HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )

    return make
