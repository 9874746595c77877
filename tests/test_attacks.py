"""Floods against two workers that may open no more files than a usual shell allows."""

from contextlib import ExitStack

import psutil
import pytest

from tests.support import LIVE, Started, StartProcess, eventually
from tests.support.metrics import scrape, whole
from tests.support.wire import wire

pytestmark = pytest.mark.process

FILES = 1024
MIB = 2**20
GET = f"GET {LIVE} HTTP/1.1\r\nHost: x\r\n".encode()
LOGIN = b"POST /api/v1/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@pytest.fixture(scope="module")
def target(start_lasting_process: StartProcess, database_url: str) -> Started:
    settings = {"WEB_CONCURRENCY": "2", "LOG_FORMAT": "json", "REQUEST_TIMEOUT_SECONDS": "2"}
    started = start_lasting_process(database_url, **settings)
    started.process.rlimit(psutil.RLIMIT_NOFILE, (FILES, FILES))  # before it has read its settings
    return whole(started)


def refused(target: Started, *reasons: str) -> float:
    scraped = scrape(target)
    return sum(scraped["app_http_refusals_total", (("reason", reason),)] for reason in reasons)


def memory(target: Started) -> list[int]:
    return [worker.memory_info().rss for worker in target.workers()]


@pytest.mark.slow
def test_a_worker_holds_no_more_connections_than_it_may_open_files(target: Started) -> None:
    assert 2 * (FILES - 100) < scrape(target)["app_http_connections_limit", ()] < 2 * FILES
    assert '"connections.limited"' in target.output


def test_a_body_that_comes_behind_its_answer_does_not_keep_the_connection_open(target: Started) -> None:
    with wire(target) as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        assert client.answer().status == 404
        client.send(b"{}")

        assert client.is_closed()


@pytest.mark.parametrize(
    "chunk", [b"a:b\r\n" * 12_000, b"a" * 60_000], ids=["20 MiB of headers", "a header of 20 MiB"]
)
def test_a_head_without_end_takes_no_memory_and_holds_up_nobody(target: Started, chunk: bytes) -> None:
    before, count = memory(target), refused(target, "headers_too_large")
    for _ in range(4):
        with wire(target) as client:
            client.send(GET)
            assert client.sent_until_refused(chunk, 20 * MIB) < 20 * MIB
        assert target.answers(LIVE) == 200

    assert refused(target, "headers_too_large") == count + 4
    assert max(memory(target)) < max(before) + 30 * MIB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beginning", "reason"),
    [
        (b"", "head_timeout"),
        (GET, "head_timeout"),
        (LOGIN + b"Content-Length: 1000\r\n\r\nusername=", "body_timeout"),
    ],
    ids=["silence", "half a head", "half a body"],
)
def test_many_who_send_nothing_more_leave_room_for_others_and_are_sent_away(
    target: Started, beginning: bytes, reason: str
) -> None:
    count = refused(target, reason)
    with ExitStack() as flood:
        clients = [flood.enter_context(wire(target)) for _ in range(700)]
        for client in clients:
            client.sends(beginning)
        assert target.answers(LIVE) == 200

        assert {client.answer().status for client in clients} == {408}
    assert refused(target, reason) == count + 700
    eventually(lambda: scrape(target)["app_http_connections", ()] < 10)
    assert (
        f'"http.refused", "reason": "{reason}"' in target.output or f'"reason": "{reason}"' in target.output
    )


def test_more_connections_than_both_workers_hold_are_closed_at_once_and_the_service_recovers(
    target: Started,
) -> None:
    count = refused(target, "connection_limit")
    with ExitStack() as flood:
        for _ in range(2 * FILES + 200):
            flood.enter_context(wire(target))

    eventually(lambda: target.answers(LIVE) == 200)
    eventually(lambda: scrape(target)["app_http_connections", ()] < 10)
    assert refused(target, "connection_limit") > count
    assert target.register().status_code == 201
