"""uvicorn's protocol, answering who asks for another one as if he did not (RFC 9110 §7.8)."""

from typing import Any, Final

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING: Final = (b"content-length", b"transfer-encoding")


class UpgradeIgnoringProtocol(HttpToolsProtocol):
    """The parser ends such a message with its head, and takes what follows for the other protocol.

    Its body must not be taken for the next request, so another parser reads on. That begins with a head of
    which it only learns how long the body is, and whether another request follows.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.ws_protocol_class = None

    def feed(self, data: bytes) -> None:
        """Raises HttpParserError."""
        while data:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                (end_of_head,) = upgrade.args
                data = data[end_of_head:]
                self._read_on()
            else:
                return

    def _read_on(self) -> None:
        framing = [each for each in self.scope["headers"] if each[0] in _FRAMING]
        framing.append((b"connection", b"keep-alive" if self.parser.should_keep_alive() else b"close"))
        lines = [b"POST / HTTP/1.1", *map(b": ".join, framing)]
        self.parser = HttpRequestParser(_AfterHead(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")


class _AfterHead:
    """What a parser calls; passes on what comes after the first head."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._heads = 0
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        self._heads += 1
        if self._heads > 1:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._heads > 1:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._heads > 1:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._heads > 1:
            self._protocol.on_headers_complete()
