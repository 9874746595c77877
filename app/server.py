"""uvicorn, whose end load balancers and clients hear of before it comes.

python -m app.server APPLICATION [UVICORN_OPTIONS...]
"""

import asyncio
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_bool
from functools import partial
from importlib import import_module
from multiprocessing.synchronize import Lock
from time import monotonic
from types import FrameType
from typing import Any, Final

from uvicorn import Config, Server
from uvicorn.server import HANDLED_SIGNALS
from uvicorn.supervisors import Multiprocess, multiprocess

from app.http.connections import STATE_KEY

_SHARE_OF_GRACE: Final = 8


class DrainingServer(Server):
    """Serves on for DRAIN_SECONDS after SIGTERM, while readiness is 503 and each answer ends its connection.

    Then it stops when it has its `turn`, so that one worker stops after the other. None waits longer for
    that than an eighth of the time that requests in flight have.
    """

    def __init__(self, config: Config, turn: Lock | None = None, hurry: c_bool | None = None) -> None:
        super().__init__(config)
        self._turn = turn
        self._has_turn = False
        self._hurry = hurry

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            _unblock_signals()
            yield

    async def on_tick(self, counter: int) -> bool:
        if not await super().on_tick(counter):
            return False
        left: float = self.lifespan.state[STATE_KEY].drain()
        patience = (self.config.timeout_graceful_shutdown or 0) / _SHARE_OF_GRACE
        if left <= 0 and self._turn is not None:
            self._has_turn = self._turn.acquire(block=False)
        return self._has_turn or left <= (-patience if self._turn else 0) or self._is_interrupted()

    def _is_interrupted(self) -> bool:
        """Somebody at a keyboard waits."""
        return signal.SIGINT in self._captured_signals or bool(self._hurry and self._hurry.value)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Whom the kernel has let in and we have not is served; whoever comes later is refused."""
        let_in = [each for server in self.servers for listener in server.sockets for each in _take(listener)]
        for closed in (*self.servers, *(sockets or ())):
            closed.close()
        kind: Any = self.config.http_protocol_class
        protocol = partial(kind, self.config, self.server_state, self.lifespan.state)
        for each in let_in:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, each, ssl=self.config.ssl)
        await super().shutdown(sockets)
        if self._turn is not None and self._has_turn:
            self._turn.release()


def _unblock_signals() -> None:
    """`app.serve` has blocked them, as process 1 never hears of those that come before its handlers."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)


def _take(listener: Any) -> list[socket.socket]:
    """The connections that wait to be accepted."""
    taken: list[socket.socket] = []
    with socket.socket(fileno=os.dup(listener.fileno())) as own:
        own.settimeout(0)
        while True:
            try:
                taken.append(own.accept()[0])
            except OSError:
                return taken


class _Worker(multiprocess.Process):
    def __init__(self, turn: Lock, hurry: c_bool, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._turn = turn
        self._hurry = hurry
        self._asked_at: float | None = None

    def ping(self, timeout: float = 5) -> bool:
        """Each half second. It does not wait, as the supervisor would hear of nothing else meanwhile."""
        try:
            if self.parent_conn.poll():
                self.parent_conn.recv()
                self._asked_at = None
            if self._asked_at is None:
                self.parent_conn.send(b"ping")
                self._asked_at = monotonic()
        except (OSError, EOFError):
            return False
        return monotonic() - self._asked_at < timeout

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = DrainingServer(self.config, self._turn, self._hurry)
        return self._server


class _Supervisor(Multiprocess):
    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        spawn = multiprocessing.get_context("spawn")
        self._hurry = spawn.RawValue(c_bool)
        multiprocess.Process = partial(_Worker, spawn.Lock(), self._hurry)  # type: ignore[misc, assignment] # what it calls
        signal.signal(signal.SIGINT, self._hear_interrupt)
        _unblock_signals()

    def _hear_interrupt(self, number: int, _: FrameType | None) -> None:
        """Also while the workers are waited for. A worker that felt a second SIGINT would end at once."""
        self._hurry.value = True
        self.signal_queue.append(number)

    def terminate_all(self) -> None:
        """A socket that is open here lets in whom no worker takes any more."""
        for each in self.sockets:
            each.close()
        super().terminate_all()


def main() -> None:
    """Gives uvicorn these classes in the place of its own, as its command has no option for that."""
    command: Any = import_module("uvicorn.main")  # `uvicorn.main` is its function
    command.Server, command.Multiprocess = DrainingServer, _Supervisor
    command.main()


if __name__ == "__main__":
    main()
