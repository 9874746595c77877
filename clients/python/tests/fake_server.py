"""`FakeAuthService` behind a socket, with all that can go wrong on the way."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self, TypeVar

import httpx

from kanban_auth_verify import AsyncVerifier, Verifier
from kanban_auth_verify.feed import Timing
from kanban_auth_verify.testing import FakeAuthService

JWKS = "/.well-known/jwks.json"
PAGES = "/api/v1/revocations"
STREAM = "stream of revocations"
QUICK = Timing(heartbeat_timeout=0.6, poll=0.05, first_retry=0.01, last_retry=0.05, last_stream_retry=0.05)
PATIENCE_SECONDS = 60
T = TypeVar("T")


def eventually(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.01)
    return found


class FakeServer:
    """`asked` counts by JWKS, PAGES and STREAM; `faults` and `refused_cursors` are statuses to answer."""

    def __init__(self) -> None:
        self.auth = FakeAuthService()
        self.asked: Counter[str] = Counter()
        self.faults: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.is_mute = False
        self.refused_cursors: dict[str | None, int] = {}
        self._epoch = 0
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """As a service that is killed: its streams end."""
        self.drop_streams()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def drop_streams(self) -> None:
        self._epoch += 1

    def verifier(self, **options: Any) -> Verifier:
        return Verifier(self.url, **self._options(options))

    def async_verifier(self, **options: Any) -> AsyncVerifier:
        return AsyncVerifier(self.url, **self._options(options))

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        own = {"service_token": self.auth.service_token, "clock": self.auth.clock, "timing": QUICK}
        return own | options


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A client that has left is none of our business."""


class _Handler(BaseHTTPRequestHandler):
    fake: ClassVar[FakeServer]

    def do_GET(self) -> None:
        fake, epoch = self.fake, self.fake._epoch
        url = httpx.URL(fake.auth.url + self.path)
        name = STREAM if self.headers.get("accept") == "text/event-stream" else url.path
        fake.asked[name] += 1
        fault = fake.refused_cursors.get(url.params.get("after")) or fake.faults.get(name)
        if fault is not None:
            self.send_response(fault)
            self.end_headers()
            return
        response = fake.auth._answer(httpx.Request("GET", url, headers=dict(self.headers)))
        self.send_response(response.status_code)
        for header, value in {**response.headers, **fake.headers, "Connection": "close"}.items():
            if header != "transfer-encoding":
                self.send_header(header, value)
        self.end_headers()
        assert isinstance(response.stream, httpx.SyncByteStream)
        for chunk in response.stream:
            if fake._epoch != epoch:
                return
            if not (fake.is_mute and name == STREAM):
                self.wfile.write(chunk)
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass
