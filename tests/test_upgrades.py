"""A request for another protocol is answered as if it asked for none, and its body is no request."""

from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest

from tests.support import LIVE, PASSWORD, Api
from tests.support.wire import Wire, wire

GET = f"GET {LIVE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
WEBSOCKET = b"Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n"
Framed = Callable[[bytes, bytes], list[bytes]]
"""Gives the head of a login with this body, and that asks for this upgrade, and what comes after the head."""
UPGRADES = pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET], ids=["h2c", "websocket"])


def login(email: str) -> bytes:
    return urlencode({"username": email, "password": PASSWORD}).encode()


def head(upgrade: bytes, *framing: bytes) -> bytes:
    form = b"Content-Type: application/x-www-form-urlencoded"
    lines = (b"POST /api/v1/token HTTP/1.1", b"Host: x", form, *framing)
    return b"\r\n".join(lines) + b"\r\n" + upgrade + b"\r\n"


def with_length(body: bytes, upgrade: bytes) -> list[bytes]:
    return [head(upgrade, b"Content-Length: %d" % len(body)), body]


def in_chunks(body: bytes, upgrade: bytes) -> list[bytes]:
    chunks = [b"%x\r\n%s\r\n" % (len(each), each) for each in (body[:7], body[7:])]
    return [head(upgrade, b"Transfer-Encoding: chunked"), *chunks, b"0\r\nTrailer: x\r\n\r\n"]


@pytest.fixture
def client(api: Api) -> Iterator[Wire]:
    with wire(api) as client:
        yield client


def heard(client: Wire) -> None:
    """The service has read what was sent: it has answered the one that came before."""
    assert client.answer().status == 200


@UPGRADES
@pytest.mark.parametrize("framed", [with_length, in_chunks])
@pytest.mark.parametrize("together", [True, False], ids=["together", "in pieces"])
def test_the_body_is_read(api: Api, client: Wire, upgrade: bytes, framed: Framed, *, together: bool) -> None:
    first, *rest = framed(login(api.new_user()), upgrade)
    client.send(GET + first + (b"".join(rest) if together else b""))
    heard(client)
    for piece in [] if together else rest:
        client.send(piece)

    assert client.answer().status == 200
    client.send(GET)
    assert client.answer().status == 200


@UPGRADES
@pytest.mark.parametrize("framed", [with_length, in_chunks])
def test_a_request_in_the_body_is_not_answered(client: Wire, upgrade: bytes, framed: Framed) -> None:
    first, *rest = framed(GET, upgrade)
    client.send(GET + first)
    heard(client)
    for piece in rest:
        client.send(piece)
    client.send(GET.replace(LIVE.encode(), b"/nowhere"))

    assert [client.answer().status for _ in range(2)] == [400, 404]


@UPGRADES
def test_what_follows_is_answered_each_in_its_turn(client: Wire, upgrade: bytes) -> None:
    asking = GET.replace(b"Host: x\r\n", b"Host: x\r\n" + upgrade)
    nowhere = GET.replace(LIVE.encode(), b"/nowhere")
    refused = b"".join(with_length(b"no form", upgrade))
    client.send((asking + nowhere + refused) * 3 + GET)

    assert [client.answer().status for _ in range(10)] == [200, 404, 400] * 3 + [200]


def test_the_limits_hold_for_the_body(client: Wire) -> None:
    client.send(head(H2C, b"Content-Length: 70000") + b"a" * 70_000)

    assert client.answer().error == (413, "payload_too_large")


def test_a_body_that_is_no_chunk_is_refused(client: Wire) -> None:
    client.send(head(H2C, b"Transfer-Encoding: chunked") + GET)

    assert client.answer().error == (400, "validation_error")
    assert client.is_closed()


def test_who_asks_before_he_sends_is_told_to(api: Api, client: Wire) -> None:
    body = login(api.new_user())
    client.send(head(H2C, b"Expect: 100-continue", b"Content-Length: %d" % len(body)))
    assert client.line() == b"HTTP/1.1 100 Continue\r\n"
    assert client.line() == b"\r\n"
    client.send(body)

    assert client.answer().status == 200


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("version", ["0.9", "1.0", "1.1", "2.0"])
def test_the_connection_goes_on_as_without_it(api: Api, version: str, connection: str) -> None:
    answers = []
    for upgrade in (b"", b"Connection: Upgrade\r\nUpgrade: x\r\n"):
        asking = f"GET {LIVE} HTTP/{version}\r\nHost: x\r\nConnection: {connection}\r\n".encode() + upgrade
        with wire(api) as client:
            client.send(asking + b"\r\n" + GET)
            client.send_no_more()
            answers.append(client.rest().count(b"HTTP/1.1 200"))

    assert answers[0] == answers[1] >= 1


def test_the_last_request_ends_the_connection(client: Wire) -> None:
    closing = GET.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n")
    client.send(closing + GET)

    assert client.answer().headers["connection"] == "close"
    assert client.is_closed()


def test_a_tunnel_is_refused_and_nothing_in_it_is_answered(client: Wire) -> None:
    client.send(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\nContent-Length: 0\r\n\r\n" + GET)

    assert client.answer().error == (400, "validation_error")
    assert client.is_closed()
