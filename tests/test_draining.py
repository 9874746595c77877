"""The end of a server: it is announced, and drops nobody."""

import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine, text

from app.application import create_app
from app.devdb import PROJECT
from app.http.protocol import LimitedProtocol
from app.server import DrainingServer
from tests.support import (
    HEALTH,
    LIVE,
    PASSWORD,
    Started,
    StartProcess,
    bearer,
    browser,
    eventually,
    make_settings,
    new_email,
    patient,
    until_blocked,
)
from tests.support.proxies import board_server, haproxy, nginx
from tests.support.wire import wire

process = pytest.mark.process
LONG = "300"
DEPLOY = PROJECT / "deploy"
GET = f"GET {LIVE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def interrupt(started: Started) -> None:
    """As who presses Ctrl-C, which every process of the terminal feels."""
    for each in [started.process, *started.workers()]:
        each.send_signal(signal.SIGINT)


@process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_will_stop_says_so_and_works_on(
    start_process: StartProcess, database_url: str, workers: str
) -> None:
    started = start_process(database_url, DRAIN_SECONDS=LONG, WEB_CONCURRENCY=workers).serves()
    with wire(started) as client:
        client.send(GET)
        assert client.answer().headers["connection"] is None

        started.process.terminate()

        eventually(lambda: started.output.count("server.draining") == int(workers))
        client.send(GET)
        assert client.answer().headers["connection"] == "close"
        assert client.is_closed()
    unready = started.get(HEALTH)
    assert (unready.status_code, unready.json()) == (503, {"status": "unavailable"})
    assert started.get("/health").status_code == 503
    assert started.get(LIVE).status_code == 200
    registered = started.register()
    assert (registered.status_code, registered.headers["connection"]) == (201, "close")
    interrupt(started)
    started.ends()


@process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_comes_after_that_is_refused_while_running_requests_end(
    start_process: StartProcess, fresh_database_url: str, fresh_database: Engine, workers: str
) -> None:
    options = ("--timeout-graceful-shutdown", "24")
    started = start_process(patient(fresh_database_url), *options, WEB_CONCURRENCY=workers).serves()
    with ThreadPoolExecutor(1) as threads, fresh_database.connect() as connection:
        connection.execute(text("BEGIN"))
        connection.execute(text("LOCK TABLE users"))
        answer = threads.submit(started.register)
        until_blocked(fresh_database)

        started.process.terminate()

        eventually(lambda: refused(started))
        assert started.process.is_running()
        connection.execute(text("COMMIT"))
        assert (answer.result().status_code, answer.result().headers["connection"]) == (201, "close")
    started.ends()


def refused(started: Started) -> bool:
    url = httpx.URL(started.base_url)
    with suppress(ConnectionRefusedError):
        socket.create_connection((url.host, url.port or 0)).close()
        return False
    return True


@process
def test_one_worker_stops_after_the_other(start_process: StartProcess, database_url: str) -> None:
    patience = ("--timeout-graceful-shutdown", "960")
    started = start_process(database_url, *patience, WEB_CONCURRENCY="3").serves()
    eventually(lambda: started.output.count("Application startup complete") == 3)

    started.process.terminate()

    started.ends()
    lines = started.output.splitlines()
    ends = [word for line in lines for word in ("Shutting down", "Finished server process") if word in line]
    assert ends == ["Shutting down", "Finished server process"] * 3


class _LastMinute(DrainingServer):
    """Whom the kernel lets in when all is over but the closing of the socket."""

    late: socket.socket | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.late = socket.create_connection(self.servers[0].sockets[0].getsockname())
        await super().shutdown(sockets)


def test_whom_the_kernel_has_let_in_is_served(database_url: str) -> None:
    app = create_app(make_settings(database_url=database_url))
    server = _LastMinute(uvicorn.Config(app, http=LimitedProtocol, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started)

    server.should_exit = True

    late = eventually(lambda: server.late)
    assert late is not None
    late.sendall(GET)
    assert late.makefile("rb").read().startswith(b"HTTP/1.1 200 OK")
    late.close()
    thread.join()


class Visitor(threading.Thread):
    """A session that is used again and again, on one connection as far as the other side likes."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.answers: Counter[str] = Counter()
        self.leaves = threading.Event()
        self._http = browser(base_url)
        user = {"email": new_email(), "password": PASSWORD}
        self._do("register", lambda: self._http.post("/api/v1/users/", json=user))
        form = {"username": user["email"], "password": PASSWORD}
        self._pair = self._do("login", lambda: self._http.post("/api/v1/token", data=form)).json()

    def run(self) -> None:
        while not self.leaves.is_set():
            self._do("me", lambda: self._http.get("/api/v1/me", headers=bearer(self._pair["access_token"])))
            refreshed = self._do("refresh", self._refresh)
            if refreshed.is_success:
                self._pair = refreshed.json()
        self._http.close()

    def _refresh(self) -> httpx.Response:
        body = {"refresh_token": self._pair["refresh_token"]}
        return self._http.post("/api/v1/refresh", json=body, headers={"Idempotency-Key": uuid4().hex})

    def _do(self, name: str, call: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            answer = call()
        except httpx.TransportError as error:
            answer = httpx.Response(599, text=repr(error))
        self.answers[name if answer.is_success else f"{name}: {answer.status_code} {answer.text}"] += 1
        return answer


def address(replica: Started) -> str:
    return replica.base_url.removeprefix("http://")


@contextmanager
def behind_nginx(folder: Path, replicas: list[Started], board: int) -> Iterator[str]:
    example = (DEPLOY / "nginx" / "prefix.conf").read_text(encoding="utf-8")
    (line,) = (each for each in example.splitlines() if "server auth:8000" in each)
    example = example.replace(line, f"{line}\n{line.replace('auth:8000', address(replicas[1]))}")
    example = hastened(example, {"keepalive_timeout 4s": "keepalive_timeout 1s"})
    with nginx(folder, example, replicas[0], board) as url:
        yield f"{url}/api/auth"


@contextmanager
def behind_haproxy(folder: Path, replicas: list[Started], board: int) -> Iterator[str]:
    example = (DEPLOY / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
    example = hastened(example, {"inter 1s": "inter 200"})
    with haproxy(folder, example, replicas[0], board, replicas[1]) as url:
        yield f"{url}/api/auth"


def hastened(example: str, shorter: dict[str, str]) -> str:
    """With times as much shorter as the test's drain is."""
    for given, short in shorter.items():
        assert given in example
        example = example.replace(given, short)
    return example


PROXIES = {"nginx": behind_nginx, "haproxy": behind_haproxy}


@process
def test_a_rolling_restart_fails_no_request(
    start_process: StartProcess, database_url: str, tmp_path: Path
) -> None:
    """Behind each proxy that is installed, of a replica with one worker and another with two."""
    drain = {"DRAIN_SECONDS": "2"}
    replicas = [
        start_process(database_url, "--timeout-keep-alive", "2", WEB_CONCURRENCY=workers, **drain)
        for workers in ("1", "2")
    ]
    for each in replicas:
        each.serves()
    missing = [name for name in PROXIES if not shutil.which(name)]
    with ExitStack() as stack:
        board = stack.enter_context(board_server())
        installed = [proxy for name, proxy in PROXIES.items() if name not in missing]
        urls = [stack.enter_context(proxy(tmp_path, replicas, board)) for proxy in installed]
        visitors = [Visitor(url) for url in urls for _ in range(2)]
        for visitor in visitors:
            visitor.start()
        for replica in replicas:
            replica.process.terminate()
            replica.ends()
            replica.start()
            replica.serves()
        for visitor in visitors:
            visitor.leaves.set()
        for visitor in visitors:
            visitor.join()
    for visitor in visitors:
        assert set(visitor.answers) == {"register", "login", "me", "refresh"}, visitor.answers
    if missing:
        pytest.skip(f"not installed, and so left out: {', '.join(missing)}")
