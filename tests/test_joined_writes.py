"""An answer leaves as one, however the application writes it."""

import sys

import pytest

from tests.support import LIVE, Api
from tests.support.wire import wire

GET = f"GET {LIVE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
HEAD = GET.replace(b"GET", b"HEAD")
LAST = GET.replace(b"Host: x", b"Host: x\r\nConnection: close")
PAGE = b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n"
TOO_LARGE = GET.replace(b"Host: x", b"A: " + b"a" * 33_000)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts segments as Linux does")


@pytest.mark.parametrize(
    ("request_", "status"),
    [(GET, 200), (HEAD, 200), (LAST, 200), (PAGE, 200), (TOO_LARGE, 431)],
    ids=["GET", "HEAD", "the last", "a page", "refused"],
)
def test_an_answer_is_one_segment(api: Api, request_: bytes, status: int) -> None:
    with wire(api) as client:
        client.send(request_)

        assert client.answer("HEAD" if request_ == HEAD else "GET").status == status
        assert client.segments() == 1


def test_answers_keep_their_order(api: Api) -> None:
    with wire(api) as client:
        client.send(HEAD + GET + HEAD + LAST)

        for method in ("HEAD", "GET", "HEAD", "GET"):
            answer = client.answer(method)
            assert (answer.status, bool(answer.body)) == (200, method == "GET")
        assert client.is_closed()


@pytest.mark.parametrize("request_", [GET, HEAD], ids=["GET", "HEAD"])
def test_who_says_that_there_will_be_no_more_is_answered(api: Api, request_: bytes) -> None:
    for _ in range(20):
        with wire(api) as client:
            client.send(request_)
            client.send_no_more()

            assert client.answer("HEAD" if request_ == HEAD else "GET").status == 200
            assert client.is_closed()
