"""A client that sends what it is told to, byte by byte."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPMessage, HTTPResponse
from typing import Any, NamedTuple

from httpx import URL

from tests.support.api import Api
from tests.support.processes import Started
from tests.support.waiting import PATIENCE_SECONDS

_DATA_SEGMENTS_IN = 152
"""Where Linux's `struct tcp_info` has `tcpi_data_segs_in`."""


class Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """Status and code, after a check of the shape that every error has."""
        body: dict[str, Any] = json.loads(self.body)
        assert set(body) - {"error", "error_description"} == {"detail", "code"}
        assert self.headers["content-type"] == "application/json"
        return self.status, body["code"]


class Wire:
    """A connection to the service."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")

    def close(self) -> None:
        self._file.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_no_more(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def sends(self, data: bytes) -> bool:
        """Whether the service lets us."""
        try:
            self._socket.sendall(data)
        except ConnectionError:
            return False
        return True

    def sent_until_refused(self, chunk: bytes, enough: int) -> int:
        """How many bytes the service takes before it lets us send no more, or `enough`."""
        sent = 0
        while sent < enough and self.sends(chunk):
            sent += len(chunk)
        return sent

    def segments(self) -> int:
        """How many have come with data, which is how often the service has written."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DATA_SEGMENTS_IN + 4)
        return int.from_bytes(info[_DATA_SEGMENTS_IN:], sys.byteorder)

    def line(self) -> bytes:
        return self._file.readline()

    def rest(self) -> bytes:
        """All that comes until the connection ends."""
        return self._file.read()

    def answer(self, method: str = "GET") -> Answer:
        response = HTTPResponse(self, method=method)  # type: ignore[arg-type] # it asks for a file alone
        response.begin()
        return Answer(response.status, response.headers, response.read())

    def makefile(self, _mode: str) -> Any:
        """For HTTPResponse, which would close the file after one answer."""
        return _Unclosed(self._file)

    def is_closed(self) -> bool:
        """When the other side has ended the connection; nothing may come before that."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True


class _Unclosed:
    def __init__(self, file: Any) -> None:
        self.readline, self.read, self.readinto = file.readline, file.read, file.readinto
        self.flush = self.close = lambda: None


@contextmanager
def wire(to: Api | Started | str) -> Iterator[Wire]:
    """Also to a base URL."""
    url = URL(to if isinstance(to, str) else to.base_url)
    with socket.create_connection((url.host, url.port or 80), timeout=PATIENCE_SECONDS) as connection:
        client = Wire(connection)
        try:
            yield client
        finally:
            client.close()
