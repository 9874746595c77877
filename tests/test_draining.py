"""The end of a server: it is announced, and drops nobody."""

import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

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
    eventually,
    make_settings,
    patient,
    until_blocked,
)
from tests.support.wire import wire

process = pytest.mark.process
LONG = "300"
DEPLOY = PROJECT / "deploy"
GET = f"GET {LIVE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
BODY = b"{}"
POST = b"POST /api/v1/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
NOWHERE = POST.replace(b"/api/v1/refresh", b"/nowhere")
ME = b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "


def until_all_serve(started: Started, workers: int) -> None:
    """One that is still at its imports ends with SIGTERM, and has nothing to announce."""
    eventually(lambda: started.output.count("Application startup complete") == workers)


@pytest.mark.slow
@process
@pytest.mark.parametrize(("workers", "alone"), [("1", True), ("2", True), ("2", False)])
def test_a_server_that_will_stop_says_so_and_works_on_until_one_process_or_all_are_interrupted(
    start_process: StartProcess, database_url: str, workers: str, *, alone: bool
) -> None:
    started = start_process(database_url, DRAIN_SECONDS=LONG, WEB_CONCURRENCY=workers).serves()
    until_all_serve(started, int(workers))
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

    for each in [started.process, *([] if alone else started.workers())]:
        each.send_signal(signal.SIGINT)

    started.ends()
    assert started.output.count("Finished server process") == int(workers)


@pytest.mark.slow
@process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupt_of_the_first_process_alone_ends_a_server_without_a_wait(
    start_process: StartProcess, database_url: str, workers: str
) -> None:
    started = start_process(database_url, DRAIN_SECONDS=LONG, WEB_CONCURRENCY=workers).serves()
    until_all_serve(started, int(workers))

    started.process.send_signal(signal.SIGINT)

    started.ends()
    assert started.output.count("Finished server process") == int(workers)


@pytest.mark.slow
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


@pytest.mark.slow
@process
@pytest.mark.parametrize("behind", [b"GET / HT", b"\0nonsense\r\n\r\n", GET + b"GET / HT"])
def test_what_comes_behind_a_running_request_does_not_hasten_its_end(
    start_process: StartProcess, fresh_database_url: str, fresh_database: Engine, behind: bytes
) -> None:
    options = ("--timeout-graceful-shutdown", "120")
    started = start_process(patient(fresh_database_url), *options, REQUEST_TIMEOUT_SECONDS="60").serves()
    token = access_token(started)
    with (
        wire(started) as running,
        wire(started) as answered,
        wire(started) as opening,
        fresh_database.connect() as connection,
    ):
        answered.send(GET + GET[:9])
        assert answered.answer().status == 200
        connection.execute(text("BEGIN"))
        connection.execute(text("LOCK TABLE users"))
        running.send(ME + token + b"\r\n\r\n" + behind)
        until_blocked(fresh_database)

        started.process.terminate()

        assert opening.is_closed()
        connection.execute(text("COMMIT"))
        answers = [running.answer(), *([running.answer()] if GET in behind else [])]
        assert [answer.status for answer in answers] == [200] * len(answers)
        assert answers[-1].headers["connection"] == "close"
        answered.send(GET[9:])
        assert answered.answer().headers["connection"] == "close"
    started.ends()


@process
def test_nothing_is_begun_behind_a_request_that_is_cut_off_at_the_end(
    start_process: StartProcess, fresh_database_url: str, fresh_database: Engine
) -> None:
    options = ("--timeout-graceful-shutdown", "1")
    started = start_process(patient(fresh_database_url), *options).serves()
    me = ME + access_token(started) + b"\r\n\r\n"
    with wire(started) as client, fresh_database.connect() as connection:
        connection.execute(text("BEGIN"))
        connection.execute(text("LOCK TABLE users"))
        client.send(me * 3)
        until_blocked(fresh_database)

        started.process.terminate()

        answer = client.answer()
        assert (answer.error, answer.headers["connection"]) == ((503, "unavailable"), "close")
        assert client.is_closed()
    started.ends()
    assert started.output.count("request.cut_short") == 1


@process
def test_an_answer_that_nobody_reads_is_cut_off_at_the_end_without_a_traceback(
    start_process: StartProcess, database_url: str
) -> None:
    started = start_process(database_url, "--timeout-graceful-shutdown", "1").serves()
    with wire(started) as client:
        client.send(GET.replace(LIVE.encode(), b"/openapi.json") * 100)
        assert client.line() == b"HTTP/1.1 200 OK\r\n"

        started.process.terminate()

        started.ends()
    assert "Cancel 1 running task(s)" in started.output
    assert "Traceback" not in started.output
    assert "request.cut_short" not in started.output  # which says that there was a 503


@process
def test_an_answer_that_is_still_taken_is_not_reset_at_the_end(
    start_process: StartProcess, database_url: str
) -> None:
    started = start_process(database_url).serves()
    document = started.get("/openapi.json").content
    with wire(started) as client:
        client.send(GET.replace(LIVE.encode(), b"/openapi.json"))
        assert client.line() == b"HTTP/1.1 200 OK\r\n"

        started.process.terminate()

        eventually(lambda: refused(started))
        client.send(b"\r\n")
        assert client.rest().endswith(document)
    started.ends()


@pytest.mark.slow
@process
def test_an_answer_that_comes_before_its_requests_body_is_the_last_too(
    start_process: StartProcess, fresh_database_url: str, fresh_database: Engine
) -> None:
    started = start_process(patient(fresh_database_url), DRAIN_SECONDS=LONG, REQUEST_TIMEOUT_SECONDS="60")
    token = access_token(started.serves())
    with (
        wire(started) as answered,
        wire(started) as running,
        wire(started) as waiting,
        wire(started) as later,
        fresh_database.connect() as connection,
    ):
        answered.send(NOWHERE)
        assert answered.answer().headers["connection"] is None
        connection.execute(text("BEGIN"))
        connection.execute(text("LOCK TABLE users"))
        running.send(ME + token + b"\r\nContent-Length: 2\r\n\r\n")
        until_blocked(fresh_database)
        waiting.send(POST)

        started.process.terminate()

        eventually(lambda: "server.draining" in started.output)
        connection.execute(text("COMMIT"))
        waiting.send(BODY)
        later.send(NOWHERE)
        answered.send(BODY + GET)
        for client in (running, waiting, later, answered):
            assert client.answer().headers["connection"] == "close"
            assert client.is_closed()
    started.process.send_signal(signal.SIGINT)
    started.ends()


def access_token(started: Started) -> bytes:
    email = started.register().json()["email"]
    pair = started.post("/api/v1/token", data={"username": email, "password": PASSWORD}).json()
    return bytes(pair["access_token"], "ascii")


def refused(started: Started) -> bool:
    url = httpx.URL(started.base_url)
    with suppress(ConnectionRefusedError):
        socket.create_connection((url.host, url.port or 0)).close()
        return False
    return True


@pytest.mark.slow
@process
def test_one_worker_stops_after_the_other(start_process: StartProcess, database_url: str) -> None:
    patience = ("--timeout-graceful-shutdown", "960")
    started = start_process(database_url, *patience, WEB_CONCURRENCY="3").serves()
    until_all_serve(started, 3)

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
