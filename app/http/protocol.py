"""uvicorn's protocol, with limits for what a client may send and how long it may take."""

from asyncio import Transport
from enum import Enum
from math import inf
from typing import Any, Final, cast

from httptools import HttpParserError

from app.errors import HeadersTooLarge, InvalidInput, RequestTimeout, ServiceError
from app.http.bodies import MAX_BODY_BYTES
from app.http.heads import MAX_HEAD_BYTES, fault_of_head
from app.http.joined_writes import JoinedWrites
from app.http.lingering import MAX_THROWN_AWAY_BYTES, LingeringProtocol
from app.http.raw_answers import raw_answer

MAX_PIPELINED: Final = 100
_OPENING_SECONDS: Final = 1  # for the first byte, when the server shuts down


class _Expected(Enum):
    """What the next byte belongs to."""

    REQUEST = "a request, whenever the client likes"
    HEAD = "the head that has begun, or that a new connection owes"
    BODY = "the body of the last head"


_REQUEST, _HEAD, _BODY = _Expected


class LimitedProtocol(LingeringProtocol):
    """What is over a limit gets an answer, where there is still one to give, and is the connection's last."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._expected = _REQUEST
        self._heads = 0
        self._overhead = 0  # bytes of the request that are not its body: the head, sizes of chunks, trailers
        self._body_bytes = 0
        self._begun_midway = False  # the head began within a piece, so it is larger than `_overhead`

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn narrows it
        if not self._all.admit(self):
            self.transport = transport
            transport.abort()
            return
        super().connection_made(cast(Transport, JoinedWrites(transport, self.loop)))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.leave(self)
        self.ending = True
        if self.flow is not None:  # it was admitted
            super().connection_lost(exc)

    def shutdown(self) -> None:
        self._all.end_streams()
        if self._is_opening():  # the request may be on its way
            self.deadline = min(self.deadline, self._all.now() + _OPENING_SECONDS)
        elif self._expected is not _HEAD:
            super().shutdown()

    def _is_opening(self) -> bool:
        return self._expected is _HEAD and not self._overhead and not self._begun_midway

    def data_received(self, data: bytes) -> None:
        while data:
            if self.ending:
                self.throw_away(data)
                return
            if self._expected is _REQUEST:
                if not (data := data.lstrip(b"\r\n")):  # RFC 9112 §2.2
                    return
                self._expect_head()
            size = MAX_HEAD_BYTES - self._overhead if self._expected is _HEAD else MAX_HEAD_BYTES
            piece, data = data[:size], data[size:]
            self._feed(piece)

    def _expect_head(self) -> None:
        self._expected = _HEAD
        self._overhead = 0
        self._begun_midway = False
        self.deadline = self._all.now() + self._all.timeout

    def _feed(self, piece: bytes) -> None:
        heads = self._heads
        self._overhead += len(piece)
        self._parse(piece)
        if self.ending or self._expected is _REQUEST:
            return
        if heads != self._heads and self._expected is _BODY:
            self.deadline = self._all.now() + self._all.timeout
        elif heads == self._heads and self._overhead >= MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge, "headers_too_large")

    def _parse(self, piece: bytes) -> None:
        """As uvicorn does, but without a line in the log for each client that speaks no HTTP."""
        try:
            self.feed(piece)
        except HttpParserError:
            if not self.ending:
                self._refuse(InvalidInput, "malformed")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._expected is _REQUEST and not self.ending:
            self._expect_head()
            self._begun_midway = True

    def on_headers_complete(self) -> None:
        if self.ending:
            return
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110 §10.1.1
        if (fault := fault_of_head(self, may_be_large=self._begun_midway)) is not None:
            self._refuse(*fault)
            return
        super().on_headers_complete()
        self.headers = []  # for trailers, which are none of the request's headers (RFC 9110 §6.5.1)
        self._expected = _BODY
        self._heads += 1
        self._overhead = self._body_bytes = 0

    def on_body(self, body: bytes) -> None:
        if self.ending:
            return
        before = self._body_bytes
        self._overhead -= len(body)
        self._body_bytes += len(body)
        if before <= MAX_BODY_BYTES < self._body_bytes:
            self._all.count_refusal("body_too_large")
        if self._body_bytes > MAX_THROWN_AWAY_BYTES and self.cycle.response_complete:
            self.ending = True
            self.close_when_written()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.ending or self.parser.should_upgrade():  # its parser knows of no body
            return
        super().on_message_complete()
        self._expected = _REQUEST
        if self.cycle.response_complete:
            self.deadline = self._all.now() + self.timeout_keep_alive
        elif self.cycle.keep_alive and len(self.pipeline) < MAX_PIPELINED:
            self.deadline = inf
        else:
            self.end_after_last_answer()

    def expire(self) -> None:
        """A deadline has passed."""
        if self.is_not_read():
            self._all.count_refusal("write_timeout")
            self.transport.abort()
        elif (self.ending or self._expected is _REQUEST) and self.is_taking():
            self.deadline = self._all.now() + self._all.timeout
        elif self.ending:
            self.transport.abort()
        elif self._expected is _REQUEST or (self._all.draining and self._is_opening()):
            self.close_when_written()
        elif self._is_waited_for():
            self.deadline = self._all.now() + self._all.timeout
        else:
            self._refuse(RequestTimeout, "head_timeout" if self._expected is _HEAD else "body_timeout")

    def _is_waited_for(self) -> bool:
        """The client waits for us, not we for it."""
        is_behind = self._expected is _HEAD or len(self.pipeline) > 0
        return self.flow.read_paused or (self.is_answering() and is_behind)

    def _refuse(self, error: type[ServiceError], reason: str) -> None:
        self._all.count_refusal(reason)
        if self._expected is _BODY and self.pipeline:
            self.end_before_last_request()
            return
        if self.is_answering() and (self._expected is not _BODY or self.cycle.response_started):
            self.end_after_last_answer()
            return
        if self._expected is not _BODY or not self.cycle.response_complete:
            self.drop_request()
            self.transport.write(raw_answer(error, self.server_state.default_headers))
        self.linger()
