"""Real proxies before the service, and before an application that believes them."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.api import Api
from tests.support.processes import Started, reserved_port
from tests.support.waiting import PATIENCE_SECONDS, eventually


class _Board(BaseHTTPRequestHandler):
    """An application that believes the headers of its proxy, and answers with what it got."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 — the base class looks for this name

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def board_server() -> Iterator[int]:
    """Gives its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Board)
    threading.Thread(target=server.serve_forever, args=(0.02,)).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@contextmanager
def nginx(folder: Path, example: str, api: Api | Started, board: int) -> Iterator[str]:
    """`example` is of the http block, and names the addresses of the service, the application and nginx."""
    with reserved_port() as port:
        example = _addressed(example, api, board, {r"\blisten 8080": f"listen 127.0.0.1:{port}"})
        paths = " ".join(
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;"
            f" events {{}} http {{ access_log off; {paths} {example} }}",
            encoding="utf-8",
        )
        with _running(["nginx", "-p", str(folder), "-c", str(config)], folder, port):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def haproxy(
    folder: Path, example: str, api: Api | Started, board: int, second: Api | Started | None = None
) -> Iterator[str]:
    """The second replica is the first one, too, unless another is given."""
    with reserved_port() as port:
        example = _replaced(
            example,
            {
                r"\bauth-1:8000": _address(api),
                r"\bauth-2:8000": _address(second or api),
                r"\bboard:8080": f"127.0.0.1:{board}",
                r"\bbind :8080": f"bind 127.0.0.1:{port}",
            },
        )
        config = folder / "haproxy.cfg"
        config.write_text(example, encoding="utf-8")
        with _running(["haproxy", "-f", str(config)], folder, port):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def caddy(folder: Path, example: str, api: Api, board: int) -> Iterator[str]:
    with reserved_port() as port:
        site = _addressed(example, api, board, {r"(?m)^:8080 ": f"http://127.0.0.1:{port} "})
        config = folder / "Caddyfile"
        config.write_text(f"{{\n\tadmin off\n}}\n{site}", encoding="utf-8")
        with _running(["caddy", "run", "--adapter", "caddyfile", "--config", str(config)], folder, port):
            yield f"http://127.0.0.1:{port}"


def _address(api: Api | Started) -> str:
    return api.base_url.removeprefix("http://")


def _addressed(example: str, api: Api | Started, board: int, own: dict[str, str]) -> str:
    addresses = {
        r"\bauth:8000": _address(api),
        r"\bboard:80\d\d": f"127.0.0.1:{board}",
    }
    return _replaced(example, addresses | own)


def _replaced(example: str, replacements: dict[str, str]) -> str:
    for name, address in replacements.items():
        example, found = re.subn(name, address, example)
        assert found
    return example


@contextmanager
def _running(command: list[str], home: Path, port: int) -> Iterator[None]:
    own = {"PATH": os.environ["PATH"], "HOME": str(home)}
    process = subprocess.Popen(command, env=own, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _is_open(port) or process.poll() is not None)
        assert process.poll() is None
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
