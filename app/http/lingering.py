"""uvicorn's protocol, closing its connections so that clients hear the last answer."""

from asyncio import AbstractEventLoop, Event, Transport
from math import inf
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from app.http.connections import STATE_KEY, Connections
from app.http.half_closed import SENDS_NO_MORE
from app.http.proxies import ProxiedProtocol
from app.http.send_queue import unacknowledged_bytes

MAX_THROWN_AWAY_BYTES: Final = 2**20
LINGER_SECONDS: Final = 5


class LingeringProtocol(ProxiedProtocol):
    """To close a socket with unread bytes resets it, and a client that still sends hears only of that.

    So the answer is followed by the end of our side, and what still comes is thrown away until the client
    closes too, or has sent or waited too much (RFC 9112 §9.6).
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all: Connections = app_state[STATE_KEY]
        self.deadline = self.write_deadline = inf
        self.ending = False
        """Nobody reads what comes: the last answer was given, or it will be the one to the last request."""
        self._thrown_away = 0
        self._untaken = inf
        self._answering: RequestResponseCycle | None = None
        self._sends_no_more = Event()

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn narrows it
        super().connection_made(transport)
        self._for_answers = _ClosedPatiently(transport, self._close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_deadline = self._all.now() + self._all.timeout

    def resume_writing(self) -> None:
        super().resume_writing()
        self.write_deadline = inf

    def is_not_read(self) -> bool:
        """The client has not taken enough of what we sent, in the time for that."""
        return self.transport.is_closing() or self.write_deadline <= self._all.now()

    def is_taking(self) -> bool:
        """The client has taken some of the last answer since we asked before, and there is more."""
        before, self._untaken = self._untaken, unacknowledged_bytes(self.transport)
        return 0 < self._untaken < before

    def close_when_written(self) -> None:
        self.transport.close()
        self.deadline = self._all.now() + self._all.timeout

    def on_headers_complete(self) -> None:
        self.scope["state"][SENDS_NO_MORE] = self._sends_no_more
        super().on_headers_complete()
        self.cycle.transport = self._for_answers  # type: ignore[assignment] # all that a cycle uses
        if self._all.draining:
            self.cycle.keep_alive = False
        if not self.pipeline:
            self._answering = self.cycle

    def on_response_complete(self) -> None:
        self._untaken = inf
        if self.pipeline:
            self._answering, _ = self.pipeline[-1]
            if self._answering.more_body:  # which nobody has asked for before
                self.deadline = self._all.now() + self._all.timeout
        elif self.deadline == inf:
            self.deadline = self._all.now() + self.timeout_keep_alive
        super().on_response_complete()
        self._unset_keepalive_if_required()  # which knows nothing of the next head, nor of who reads slowly

    def eof_received(self) -> bool:  # type: ignore[override] # as uvicorn narrows it
        """Most who send no more have left, and some read on. What has come whole is answered to either.

        Who waits for a hash is told, and a stream that has begun would never end.
        """
        self._sends_no_more.set()
        if not self.is_answering() or self._is_streaming() or (self.cycle.more_body and not self.pipeline):
            self.close_when_written()
        elif self.cycle.more_body:
            self.end_before_last_request()
        else:
            self.end_after_last_answer()
        return not self.transport.is_closing()

    def _is_streaming(self) -> bool:
        answering = self._answering
        return answering is not None and answering.response_started and bool(answering.chunked_encoding)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sends_no_more.set()
        if self._answering is not None:  # uvicorn tells the last request alone, and this one may be before it
            self._answering.disconnected = True
            self._answering.message_event.set()
        self._for_answers.close = self.transport.close  # or only the garbage collector would find us
        super().connection_lost(exc)

    def is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def shutdown(self) -> None:
        if self.ending:
            return
        if self.is_answering():
            self.cycle.keep_alive = False
        elif self.is_taking():
            self.linger()
        else:
            self.close_when_written()

    def retire(self) -> None:
        if not self.is_answering():
            return
        self.cycle.keep_alive = False
        if not self.cycle.more_body:
            self.end_after_last_answer()

    def end_after_last_answer(self) -> None:
        """Of the requests that have come."""
        self.ending = True
        self.deadline = inf
        self.cycle.keep_alive = False

    def end_before_last_request(self) -> None:
        """It will never be whole, nor begin, and those before it have their turn."""
        self.pipeline.popleft()
        before = self.pipeline[0][0] if self.pipeline else self._answering
        assert before is not None
        self.cycle = before
        self.end_after_last_answer()

    def drop_request(self) -> None:
        """It will never be whole."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()

    def _close(self) -> None:
        assert self._answering is not None
        if self.pipeline:  # uvicorn would begin it behind the last answer
            self.pipeline.clear()
            self.cycle, self.ending = self._answering, True
        if self._answering.response_complete and not self._sends_no_more.is_set():
            self.linger()
        else:
            self.close_when_written()

    def linger(self) -> None:
        self.ending = True
        self.deadline = self._all.now() + LINGER_SECONDS
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def throw_away(self, data: bytes) -> None:
        self._thrown_away += len(data)
        if self._thrown_away > MAX_THROWN_AWAY_BYTES:
            self.transport.abort()


class _ClosedPatiently:
    """The part of a transport that uvicorn's request uses."""

    def __init__(self, transport: Transport, close: Any) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close
