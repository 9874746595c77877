"""What a client may send, and how long it may take, before and beside the application."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from itertools import count

import pytest
from fastapi import Response
from fastapi.sse import EventSourceResponse

from app.http.connections import Connections
from app.http.protocol import LimitedProtocol
from app.telemetry.labels import HTTP_REFUSALS
from tests.support import HEALTH, LIVE, PASSWORD, Api, Lines, MakeService, Started, StartProcess, eventually
from tests.support.wire import wire

KIB = 1024
ENDLESS = 64 * 2**20
"""More than sockets of this machine keep for a service that does not read on."""
GET = f"GET {LIVE} HTTP/1.1\r\nHost: x\r\n".encode()
POST = b"POST /api/v1/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OPENAPI = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
"""Its answer is more than a client's socket takes before that reads."""
LARGE = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
"""Its answer has over a megabyte; twenty are more than sockets keep for a client that does not read."""


@pytest.fixture(scope="module")
def hasty(start_lasting_service: MakeService) -> Api:
    """Gives clients a second for a head, and another for a body."""
    return start_lasting_service(request_timeout_seconds=1)


@pytest.fixture
def logging_api(start_service: MakeService, lines: Lines) -> Api:
    """Logs to `lines`."""
    assert lines.lines == []
    return start_service(log_level="INFO", log_format="json")


def refusals(api: Api, reason: str) -> float:
    return api.metric("app_http_refusals_total", reason=reason)


def head_of(size: int) -> bytes:
    return GET + b"A: ".ljust(size - len(GET) - 4, b"a") + b"\r\n\r\n"


def body_of(size: int, *headers: bytes) -> bytes:
    length = b"Content-Length: %d" % size
    return POST + b"\r\n".join([length, *headers]) + b"\r\n\r\n" + b"x" * size


def test_a_head_at_the_limit_is_read(api: Api) -> None:
    with wire(api) as client:
        client.send(head_of(32 * KIB))

        assert client.answer().status == 200


@pytest.mark.parametrize(
    "head",
    [
        head_of(32 * KIB + 1),
        head_of(900 * KIB),
        b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"a:b\r\n" * 100_000,
        b"\r\n" * 20 * KIB,
        b"G" * 40 * KIB,
    ],
    ids=[
        "one byte too many",
        "900 KiB",
        "a URL of 1 MiB",
        "many headers",
        "no line at all",
        "no end of a line",
    ],
)
def test_a_head_over_the_limit_is_431_and_the_last_of_its_connection(api: Api, head: bytes) -> None:
    before = refusals(api, "headers_too_large") + refusals(api, "malformed")
    with wire(api) as client:
        client.send(head)
        answer = client.answer()

        assert answer.error in ((431, "headers_too_large"), (400, "validation_error"))
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.is_closed()
    assert refusals(api, "headers_too_large") + refusals(api, "malformed") == before + 1


def test_a_head_over_the_limit_is_refused_in_however_small_pieces_it_comes(api: Api) -> None:
    with wire(api) as client:
        client.send(GET + b"A: ")
        for _ in range(33):
            client.sends(b"a" * KIB)

        assert client.answer().error == (431, "headers_too_large")


def test_a_head_without_end_is_not_read_on(api: Api) -> None:
    with wire(api) as client:
        client.send(GET + b"A: ")

        assert client.sent_until_refused(b"a" * 64 * KIB, ENDLESS) < ENDLESS


def test_a_hundred_headers_are_read_and_one_more_is_431(api: Api) -> None:
    before = refusals(api, "too_many_headers")
    with wire(api) as client:
        client.send(GET + b"a:b\r\n" * 99 + b"\r\n")
        assert client.answer().status == 200
        client.send(GET + b"a:b\r\n" * 100 + b"\r\n")

        assert client.answer().error == (431, "headers_too_large")
        assert client.is_closed()
    assert refusals(api, "too_many_headers") == before + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beginning", "reason"),
    [
        (b"", "head_timeout"),
        (b"G", "head_timeout"),
        (GET, "head_timeout"),
        (POST + b"Content-Length: 2\r\n\r\n{", "body_timeout"),
        (POST + b"Content-Length: 2\r\n\r\n", "body_timeout"),
        (CHUNKED + b"1\r\n{\r\n", "body_timeout"),
    ],
)
def test_what_does_not_come_in_time_is_408(hasty: Api, beginning: bytes, reason: str) -> None:
    before = refusals(hasty, reason)
    with wire(hasty) as client:
        client.send(beginning)
        answer = client.answer()

        assert answer.error == (408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert client.is_closed()
    assert refusals(hasty, reason) == before + 1


@pytest.mark.parametrize("beginning", [GET + b"A: ", POST + b"Content-Length: 60000\r\n\r\n"])
def test_who_drips_gets_no_more_time(hasty: Api, beginning: bytes) -> None:
    heard = threading.Event()
    with wire(hasty) as client:

        def drip() -> None:
            while client.sends(b"a") and not heard.wait(0.05):
                pass

        client.send(beginning)
        dripping = threading.Thread(target=drip)
        dripping.start()
        answer = client.answer()
        heard.set()
        dripping.join()

    assert answer.error == (408, "request_timeout")


def test_the_second_request_of_a_connection_has_a_time_of_its_own(hasty: Api) -> None:
    with wire(hasty) as client:
        client.send(GET + b"\r\n")
        assert client.answer().status == 200
        client.send(b"GET ")

        assert client.answer().error == (408, "request_timeout")


def test_empty_lines_between_requests_begin_none(hasty: Api) -> None:
    """RFC 9112 §2.2. Some clients end a body with one."""
    with wire(hasty) as client:
        client.send(body_of(2))
        assert client.answer().status == 400
        client.send(b"\r\n" * 20 * KIB)
        let_a_second_pass(hasty)
        client.send(b"\r\n" + GET + b"\r\n")

        assert client.answer().status == 200


def let_a_second_pass(hasty: Api) -> None:
    """And the next look at the deadlines."""
    for _ in range(2):
        with wire(hasty) as later:
            assert later.answer().status == 408


@pytest.fixture(scope="module")
def impatient(start_lasting_process: StartProcess, database_url: str) -> Started:
    """Keeps idle connections for a second."""
    return start_lasting_process(database_url, "--timeout-keep-alive", "1").serves()


def let_an_idle_connection_end(impatient: Started, behind: bytes = b"") -> None:
    with wire(impatient) as client:
        client.send(GET + b"\r\n" + behind)
        assert client.answer().status == 200

        assert client.is_closed()


@pytest.mark.process
def test_an_idle_connection_is_closed_without_a_word(impatient: Started) -> None:
    let_an_idle_connection_end(impatient)
    let_an_idle_connection_end(impatient, b"\r\n")


@pytest.mark.process
def test_a_connection_is_not_idle_while_an_answer_is_taken(impatient: Started) -> None:
    document = impatient.get("/openapi.json").content
    with wire(impatient) as client:
        client.send(OPENAPI)
        let_an_idle_connection_end(impatient)
        client.send(OPENAPI)

        assert [client.answer().body for _ in range(2)] == [document] * 2
        assert client.is_closed()


@pytest.mark.process
@pytest.mark.parametrize(
    ("beginning", "status"),
    [(GET + b"\r\n" + GET, 200), (body_of(2)[:-2].replace(b"/api/v1/refresh", b"/nowhere"), 404)],
    ids=["head", "body"],
)
def test_a_connection_is_not_idle_while_a_request_is_on_its_way(
    impatient: Started, beginning: bytes, status: int
) -> None:
    with wire(impatient) as client:
        client.send(beginning)
        assert client.answer().status == status
        let_an_idle_connection_end(impatient)
        client.send(b"\r\n" + GET + b"\r\n")

        assert client.answer().status == 200


def test_an_answer_may_take_longer_than_a_request(hasty: Api, busy_hashing: threading.Event) -> None:
    with wire(hasty) as client:
        busy_hashing.clear()
        client.send(login(hasty))
        client.send(b"GET ")  # and a request behind it may wait as long
        let_a_second_pass(hasty)
        busy_hashing.set()

        assert client.answer().status == 200
        client.send(f"{LIVE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.answer().status == 200


def login(api: Api) -> bytes:
    form = f"username={api.new_user()}&password={PASSWORD.replace(' ', '+')}".encode()
    return (
        b"POST /api/v1/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(form), form)
    )


def test_who_asks_whether_to_send_while_an_earlier_request_runs_is_told_so_in_time(
    hasty: Api, busy_hashing: threading.Event
) -> None:
    with wire(hasty) as client:
        busy_hashing.clear()
        client.send(login(hasty) + body_of(2, b"Expect: 100-continue")[:-2])
        let_a_second_pass(hasty)
        busy_hashing.set()

        assert client.answer().status == 200
        assert client.line() == b"HTTP/1.1 100 Continue\r\n"
        assert client.line() == b"\r\n"
        client.send(b"{}")
        assert client.answer().status == 400


def test_requests_in_one_piece_are_answered_in_their_order(api: Api) -> None:
    with wire(api) as client:
        client.send((GET + b"\r\n" + body_of(2) + b"HEAD" + GET[3:] + b"\r\n") * 30)

        for _ in range(30):
            answers = [client.answer(), client.answer(), client.answer("HEAD")]
            assert [answer.status for answer in answers] == [200, 400, 200]


def test_of_requests_in_one_piece_the_one_over_a_limit_ends_the_connection(api: Api) -> None:
    with wire(api) as client:
        client.send(GET + b"\r\n" + GET + b"a:b\r\n" * 100 + b"\r\n" + GET + b"\r\n")
        answer = client.answer()

        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert client.is_closed()


def test_a_head_that_begins_behind_another_request_has_the_same_limit(api: Api) -> None:
    for size, status in ((32 * KIB, 200), (32 * KIB + 1, 0)):
        with wire(api) as client:
            client.send(GET + b"\r\n" + head_of(size))

            assert client.answer().status == 200
            if status:
                assert client.answer().status == status
            else:
                assert client.is_closed()


def test_a_connection_that_sends_without_reading_is_given_no_endless_line(api: Api) -> None:
    with wire(api) as client:
        assert client.sends((GET + b"\r\n") * 300)
        answers = 0
        while client.answer().headers["connection"] != "close":
            answers += 1

        assert answers >= 100
        assert client.is_closed()
        assert answers < 299


def test_requests_before_those_that_are_too_many_may_take_their_time(
    hasty: Api, busy_hashing: threading.Event
) -> None:
    with wire(hasty) as client:
        busy_hashing.clear()
        client.send(login(hasty) + (GET + b"\r\n") * 110)
        let_a_second_pass(hasty)
        busy_hashing.set()

        answers = [client.answer()]
        while answers[-1].headers["connection"] != "close":
            answers.append(client.answer())
        assert [answer.status for answer in answers] == [200] * 101
        assert client.is_closed()


@pytest.mark.parametrize("before", [1, 2, 5])
def test_requests_before_one_that_will_never_be_whole_are_answered(
    logging_api: Api, lines: Lines, before: int
) -> None:
    health = GET.replace(LIVE.encode(), HEALTH.encode()) + b"\r\n"
    with wire(logging_api) as client:
        client.send(health * before + CHUNKED + b"ZZZ\r\n")

        answers = [client.answer() for _ in range(before)]
        assert [answer.status for answer in answers] == [200] * before
        assert [answer.headers["connection"] for answer in answers] == [None] * (before - 1) + ["close"]
        assert client.is_closed()
    assert lines.requests(before)
    assert failures(lines) == []


@pytest.mark.parametrize(
    "behind",
    [b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 101, POST + b"Content-Length: 9\r\n\r\n{"],
    ids=["more than are remembered", "one that is not whole"],
)
def test_nothing_behind_a_request_whose_answer_is_the_last_is_begun(
    logging_api: Api, lines: Lines, behind: bytes
) -> None:
    """HTTP/1.0 is answered so, whatever the client says of the connection."""
    head, body = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n", b"{}"
    with wire(logging_api) as client:
        client.send(head + b"Content-Length: 2\r\n\r\n")
        eventually(lambda: logging_api.metric("http_requests_in_progress") == 1)
        client.send(body + behind)

        assert client.answer().status == 400
        assert client.is_closed()
    logging_api.me("of nobody")
    assert [line["status"] for line in lines.requests(2)] == [400, 401]
    assert failures(lines) == []


def test_nobody_is_told_to_continue_what_was_refused(logging_api: Api, lines: Lines) -> None:
    with wire(logging_api) as client:
        client.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") + b"ZZZ\r\n")

        assert client.answer().error == (400, "validation_error")
        assert client.is_closed()
    assert lines.requests(1)
    assert failures(lines) == []


def test_the_connection_over_the_limit_is_closed_at_once(start_service: MakeService) -> None:
    api = start_service(max_connections=2)
    with wire(api) as first:
        with wire(api) as second:
            for each in (first, second):
                each.send(GET + b"\r\n")
                assert each.answer().status == 200
            with wire(api) as third:
                assert third.is_closed()
            assert refusals(api, "connection_limit") == 1
        eventually(lambda: answers(api))


def answers(api: Api) -> bool:
    with wire(api) as client:
        return client.sends(GET + b"\r\n") and not client.is_closed()


@pytest.mark.parametrize("request_", [GET + b"Connection: close\r\n\r\n", body_of(2, b"Connection: close")])
def test_connections_that_have_ended_wait_for_no_garbage_collection(
    start_service: MakeService, request_: bytes
) -> None:
    api = start_service()
    gc.collect()
    gc.disable()
    try:
        before = remembered()
        for _ in range(20):
            with wire(api) as client:
                client.send(request_)
                assert client.answer().headers["connection"] == "close"

        eventually(lambda: remembered() <= before + 2)  # that of `api`, and what is still ending
    finally:
        gc.enable()


def remembered() -> int:
    return sum(type(each) is LimitedProtocol for each in gc.get_objects())


def test_open_connections_are_counted(start_service: MakeService) -> None:
    api = start_service(max_connections=50)
    with wire(api), wire(api):
        eventually(lambda: api.metric("app_http_connections") == 2)
    eventually(lambda: api.metric("app_http_connections") == 0)

    assert api.metric("app_http_connections_limit") == 50


@pytest.mark.parametrize("size", [64 * KIB + 1, 300 * KIB, 1000 * KIB])
@pytest.mark.parametrize("headers", [(), (b"Connection: close",)], ids=["kept", "closed"])
def test_a_client_that_sends_all_of_a_large_body_first_hears_the_413(
    api: Api, size: int, headers: tuple[bytes, ...]
) -> None:
    before = refusals(api, "body_too_large")
    with wire(api) as client:
        client.send(body_of(size, *headers))

        assert client.answer().error == (413, "payload_too_large")
        if not headers:
            client.send(GET + b"\r\n")
            assert client.answer().status == 200
        else:
            assert client.is_closed()
    assert refusals(api, "body_too_large") == before + 1


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (body_of(900 * KIB, b"Connection: close")[: 70 * KIB], 413),
        (body_of(900 * KIB, b"Connection: close").replace(b"/api/v1/refresh", b"/nowhere")[: 10 * KIB], 404),
        (GET + b"A: " + b"a" * 40 * KIB, 431),
        (GET + b"a:b\r\n" * 100 + b"\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_the_last_answer_is_not_reset_by_what_the_client_still_sends(
    api: Api, beginning: bytes, status: int
) -> None:
    with wire(api) as client:
        client.send(beginning)
        answer = client.answer()
        assert client.is_closed()  # for what would come from there

        for _ in range(40):
            client.send(b"a" * 16 * KIB)

    assert (answer.status, answer.headers["connection"]) == (status, "close")


def test_a_malformed_body_cuts_no_answer_short_that_has_begun(api: Api) -> None:
    whole = len(api.http.get("/static-offline-docs/swagger-ui-bundle.js").content)
    with wire(api) as client:
        client.send(LARGE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
        assert client.line() == b"HTTP/1.1 200 OK\r\n"
        client.send(b"ZZZ\r\n")

        assert len(client.rest()) > whole


@pytest.mark.parametrize("last", [b" HTTP/1.0\r\n", b" HTTP/1.1\r\nConnection: close\r\n"])
@pytest.mark.parametrize("behind", [b"\r\n", GET + b"\r\n", b"nonsense\r\n\r\n"])
def test_what_comes_behind_the_last_request_cuts_no_answer_short(
    api: Api, last: bytes, behind: bytes
) -> None:
    document = api.http.get("/openapi.json").content
    with wire(api) as client:
        client.send(OPENAPI + OPENAPI.replace(b" HTTP/1.1\r\n", last))
        assert client.line() == b"HTTP/1.1 200 OK\r\n"
        eventually(lambda: api.metric("http_requests_in_progress") == 0)
        client.send(behind)

        assert client.rest().count(document) == 2


@pytest.mark.parametrize("size", [300 * KIB, ENDLESS], ids=["sockets keep it", "sockets keep a part"])
def test_who_takes_a_last_answer_slowly_hears_all_of_it(
    start_service: MakeService, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("app.http.lingering.LINGER_SECONDS", 0)
    api = start_service()

    @api.app.get("/large")
    async def large() -> Response:
        return Response(b"x" * size)

    with wire(api) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.line() == b"HTTP/1.1 200 OK\r\n"
        eventually(lambda: api.metric("http_requests_in_progress") == 0)
        with wire(api):
            eventually(lambda: api.metric("app_http_connections") == 2)  # which each look at deadlines counts
        eventually(lambda: api.metric("app_http_connections") < 2)
        client.send(b"\r\n")

        assert client.rest().count(b"x") >= size


def test_who_does_not_end_a_connection_after_the_last_answer_keeps_no_place(
    start_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.http.lingering.LINGER_SECONDS", 0)
    api = start_service()
    with wire(api) as client:
        client.send(GET + b"Connection: close\r\n\r\n")
        assert client.answer().status == 200
        assert client.is_closed()

        eventually(lambda: api.metric("app_http_connections") == 0)


@pytest.mark.parametrize("path", [b"/nowhere", b"/api/v1/me", b"/api/v1/admin/users"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_client_that_sends_first_hears_an_answer_that_needs_no_body(
    api: Api, path: bytes, version: bytes
) -> None:
    request = body_of(900 * KIB).replace(b"/api/v1/refresh", path).replace(b"HTTP/1.1", b"HTTP/" + version)
    with wire(api) as client:
        client.send(request)
        answer = client.answer()

        assert answer.status in (401, 404, 405, 413)
        assert client.is_closed() if version == b"1.0" else answers(api)


@pytest.mark.parametrize("headers", [(), (b"Connection: close",)], ids=["kept", "closed"])
def test_a_body_without_end_is_not_read_on(api: Api, headers: tuple[bytes, ...]) -> None:
    with wire(api) as client:
        client.send(POST + b"\r\n".join([b"Content-Length: 1000000000", *headers]) + b"\r\n\r\n")

        assert client.sent_until_refused(b"x" * 64 * KIB, ENDLESS) < ENDLESS


def test_an_answer_that_came_before_the_body_leaves_no_connection_open(hasty: Api) -> None:
    with wire(hasty) as client:
        client.send(body_of(0).replace(b"/api/v1/refresh", b"/nowhere").replace(b"Length: 0", b"Length: 9"))
        assert client.answer().status == 404

        assert client.is_closed()


def test_trailers_are_no_headers(api: Api) -> None:
    token = api.log_in()["access_token"].encode()
    chunked = b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with wire(api) as client:
        client.send(chunked + b"0\r\nAuthorization: Bearer " + token + b"\r\n\r\n")

        assert client.answer().error == (401, "not_authenticated")


@pytest.mark.parametrize(
    "overhead",
    [b"1;" + b"a" * 80 * KIB, b"0\r\n" + b"a: b\r\n" * 14 * KIB, b"0\r\na: " + b"b" * 80 * KIB],
    ids=["extension", "trailers", "trailer"],
)
def test_what_is_around_a_body_has_the_limit_of_a_head(api: Api, overhead: bytes) -> None:
    with wire(api) as client:
        client.send(CHUNKED + overhead)

        assert client.answer().error == (431, "headers_too_large")
        assert client.is_closed()


@pytest.mark.parametrize(
    "garbage",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        CHUNKED + b"x\r\n",
    ],
    ids=["text", "TLS", "HTTP/2", "version", "chunk"],
)
def test_what_is_no_http_is_400_and_the_last_of_its_connection(api: Api, garbage: bytes) -> None:
    with wire(api) as client:
        client.send(garbage)
        answer = client.answer()

        assert answer.error == (400, "validation_error")
        assert answer.headers["connection"] == "close"
        assert client.is_closed()


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [(b"1.1", 1, 200), (b"1.1", 2, 400), (b"1.0", 0, 200), (b"1.0", 2, 400)],
)
def test_a_request_does_not_name_two_hosts(api: Api, version: bytes, hosts: int, status: int) -> None:
    line = b"GET " + LIVE.encode() + b" HTTP/" + version + b"\r\n"
    with wire(api) as client:
        client.send(line + b"Host: x\r\n" * hosts + b"\r\n")

        assert client.answer().status == status


def test_a_client_of_http_1_0_is_not_told_to_send(api: Api) -> None:
    with wire(api) as client:
        head = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        client.send(head + b"{}")

        assert client.line() == b"HTTP/1.1 400 Bad Request\r\n"


def test_a_client_that_asks_before_it_sends_is_told_to(api: Api) -> None:
    with wire(api) as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.line() == b"HTTP/1.1 100 Continue\r\n"
        assert client.line() == b"\r\n"
        client.send(b"{}")

        assert client.answer().error == (400, "validation_error")


def test_a_client_that_asks_before_it_sends_too_much_hears_so_at_once(api: Api) -> None:
    before = refusals(api, "body_too_large")
    with wire(api) as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n")

        assert client.answer().error == (413, "payload_too_large")
        assert client.is_closed()
    assert refusals(api, "body_too_large") == before + 1


@pytest.mark.parametrize("last", [b"", GET + b"Connection: close\r\n\r\n"], ids=["kept", "closed"])
def test_who_does_not_read_the_answers_loses_the_connection(
    start_service: MakeService, lines: Lines, monkeypatch: pytest.MonkeyPatch, last: bytes
) -> None:
    monkeypatch.setattr("sys.stdout", lines)
    api = start_service(request_timeout_seconds=1, log_level="INFO", log_format="json")
    with wire(api) as client:
        client.send(LARGE * 20 + last)

        eventually(lambda: api.metric("app_http_connections") == 1)
        eventually(lambda: refusals(api, "write_timeout") == 1)
        eventually(lambda: api.metric("http_requests_in_progress") == 0)
        eventually(lambda: api.metric("app_http_connections") == 0)
    assert lines.requests(1)
    assert failures(lines) == []


def failures(lines: Lines) -> list[str]:
    return [line for line in lines.lines if '"error"' in line or "exception" in line]


def test_a_listener_that_does_not_read_its_stream_loses_the_connection(start_service: MakeService) -> None:
    api = start_service(request_timeout_seconds=1)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)  # as it would wait for its next event
            yield b":" * 64 * KIB

    @api.app.get("/endless")
    async def stream() -> EventSourceResponse:
        return EventSourceResponse(endless())

    with wire(api) as client:
        client.send(GET.replace(LIVE.encode(), b"/endless") + b"\r\n")

        eventually(lambda: refusals(api, "write_timeout") == 1)
        eventually(lambda: api.metric("http_requests_in_progress") == 0)


def test_who_reads_slowly_but_steadily_hears_all(start_lasting_service: MakeService) -> None:
    api = start_lasting_service(request_timeout_seconds=2)
    tick = threading.Event()
    with wire(api) as client:
        client.send(LARGE * 20)
        for _ in range(20):
            assert client.answer().status == 200
            tick.wait(0.2)
        tick.wait(2.2)  # nothing is left to read
        client.send(GET + b"\r\n")
        assert client.answer().status == 200

    assert refusals(api, "write_timeout") == 0


@pytest.mark.parametrize("number", [1, 20])
def test_a_client_that_leaves_during_an_answer_is_no_failure(
    logging_api: Api, lines: Lines, number: int
) -> None:
    with wire(logging_api) as client:
        client.send(LARGE * number)
        assert client.line() == b"HTTP/1.1 200 OK\r\n"

    eventually(lambda: lines.events("http.request"))
    eventually(lambda: logging_api.metric("http_requests_in_progress") == 0)
    assert failures(lines) == []


@pytest.mark.parametrize("refused", [b"Host: x\r\n", b"a: b\r\n" * 100], ids=["two hosts", "too many"])
@pytest.mark.parametrize("more", [b"Transfer-Encoding: gzip\r\n\r\n", b"\r\nno request\r\n\r\n"])
def test_what_comes_after_a_refused_head_is_no_failure(
    logging_api: Api, lines: Lines, refused: bytes, more: bytes
) -> None:
    with wire(logging_api) as client:
        client.send(GET + refused + more)

        assert client.answer().status in (400, 431)
        assert client.is_closed()
    eventually(lambda: logging_api.metric("app_http_connections") == 0)
    assert sum(refusals(logging_api, reason) for reason in HTTP_REFUSALS) == 1
    assert failures(lines) == []


def test_what_is_no_http_is_logged_by_the_minute_alone(logging_api: Api, lines: Lines) -> None:
    for _ in range(3):
        with wire(logging_api) as client:
            client.send(b"\x16\x03\x01\r\n\r\n")
            assert client.answer().status == 400

    eventually(lambda: lines.events("http.refused"))
    assert [line for line in lines.lines if "Invalid HTTP" in line] == []


@pytest.fixture
def refusing(logging_api: Api) -> Connections:
    """Logs to `lines`; time goes by a second with each sweep."""
    container = logging_api.container
    seconds = count()
    return Connections(container.settings, container.metrics.http, lambda: None, now=lambda: next(seconds))


def test_refusals_are_logged_at_once_and_then_by_the_minute(refusing: Connections, lines: Lines) -> None:
    reason = "of no other service that logs meanwhile"
    for number in (1, 3, 2):
        for _ in range(number):
            refusing.count_refusal(reason)
        for _ in range(30):
            refusing.sweep()
    for _ in range(60):
        refusing.sweep()

    logged = [each["number"] for each in lines.events("http.refused") if each["reason"] == reason]
    assert logged == [1, 5]


def test_every_kind_of_refusal_is_counted_from_zero(start_service: MakeService) -> None:
    api = start_service()

    assert [refusals(api, reason) for reason in HTTP_REFUSALS] == [0] * len(HTTP_REFUSALS)
