"""A transport that sends the head of an answer and its body as one, where both are there.

uvloop sends at once whatever is written. A short answer would be two system calls and two packets, and wake a
client that can do nothing yet.
"""

from asyncio import AbstractEventLoop, Handle, Transport
from typing import Any


class JoinedWrites:
    """Holds a write back until the next one, or until the event loop has run what is ready now."""

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        self._sending: Handle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._sending is not None:
            self._send(data)
        else:
            self._held = data
            self._sending = self._loop.call_soon(self._send)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def write_eof(self) -> None:
        self._send()
        self._transport.write_eof()

    def _send(self, data: bytes = b"") -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            held, self._held = self._held, b""
            if not self._transport.is_closing():
                self._transport.write(b"".join((held, data)))
