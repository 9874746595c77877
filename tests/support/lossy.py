"""A proxy of one origin for a page and the service, which loses answers."""

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE_SECONDS

_NOT_PASSED_ON = ("connection", "keep-alive", "transfer-encoding", "date", "server")


class Lossy(ThreadingHTTPServer):
    """`/app/` is files of `folder`, `/app/` itself an empty page, and all else the service's."""

    daemon_threads = True

    def __init__(self, service: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://localhost:{self.server_port}"
        self.service = urlsplit(service).netloc
        self.folder = folder
        self.loss = 0.0
        """Which part of the answers never arrives, though the service has done its work."""
        self.refreshes_to_lose = 0
        """So many of the next ones."""
        self.chance = random.Random(5)  # noqa: S311 — the same losses in each run
        self.keys: list[str] = []
        """The Idempotency-Key of each refresh."""
        self.statuses: list[int] = []
        """Of the refreshes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Lossy

    def do_GET(self) -> None:
        if self.path.startswith("/app/"):
            self._send_file(self.path.removeprefix("/app/"))
        else:
            self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _send_file(self, name: str) -> None:
        body = (self.server.folder / name).read_bytes() if name else b"<!doctype html><title>App</title>"
        kind = "text/javascript" if name.endswith(".js") else "text/html"
        self._send(200, [("Content-Type", kind)], body)

    def _pass_on(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        upstream = http.client.HTTPConnection(self.server.service, timeout=PATIENCE_SECONDS)
        upstream.request(self.command, self.path, content, dict(self.headers))
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        if self.path == "/api/v1/refresh":
            self.server.keys.append(self.headers["idempotency-key"])
            self.server.statuses.append(answer.status)
        if self._is_lost():
            self.close_connection = True
            return
        self._send(answer.status, answer.getheaders(), body)

    def _is_lost(self) -> bool:
        if self.path == "/api/v1/refresh" and self.server.refreshes_to_lose:
            self.server.refreshes_to_lose -= 1
            return True
        return self.server.chance.random() < self.server.loss

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in (*_NOT_PASSED_ON, "content-length"):
                self.send_header(name, value)
        if status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def lossy(service: str, folder: Path) -> Iterator[Lossy]:
    server = Lossy(service, folder)
    threading.Thread(target=server.serve_forever, args=(0.02,)).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
