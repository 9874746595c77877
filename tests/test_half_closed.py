"""A client that has sent all it will ever send, and reads on (RFC 9112 §9.6 lets it)."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import HEALTH, LIVE, Api, MakeService, bearer, eventually
from tests.support.siblings import REVOCATIONS, Sibling
from tests.support.wire import Wire, wire

LARGE = "/static-offline-docs/swagger-ui-bundle.js"


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    fields = {"Host": "x", "Content-Length": str(len(body))} | (headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


HALF_A_BODY = request("POST", "/api/v1/refresh", {"Content-Length": "9"}, b"{")


def stream(api: Api) -> bytes:
    headers = bearer(Sibling(api).token) | {"Accept": "text/event-stream"}
    return request("GET", REVOCATIONS, headers)


def send_all(client: Wire, *requests: bytes) -> None:
    client.send(b"".join(requests))
    client.send_no_more()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [LIVE, HEALTH, "/metrics", "/docs", LARGE, "/nowhere", "/api/v1/me"])
def test_it_is_answered(api: Api, method: str, path: str) -> None:
    headers = bearer(api.log_in()["access_token"])
    expected = api.http.request(method, path, headers=headers)
    for _ in range(5):
        with wire(api) as client:
            send_all(client, request(method, path, headers))

            answer = client.answer(method)
            assert answer.status == expected.status_code
            assert path == "/metrics" or len(answer.body) == len(expected.content)
            assert client.is_closed()


def test_its_refresh_is_answered(api: Api) -> None:
    body = json.dumps({"refresh_token": api.log_in()["refresh_token"]}).encode()
    with wire(api) as client:
        send_all(client, request("POST", "/api/v1/refresh", {"Content-Type": "application/json"}, body))

        assert "access_token" in json.loads(client.answer().body)
        assert client.is_closed()


def test_it_hears_that_nobody_hashes_for_a_client_that_may_have_left(api: Api) -> None:
    body = f"username={api.new_user()}&password=correct%20horse%20battery".encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with wire(api) as client:
        send_all(client, request("POST", "/api/v1/token", form, body))

        assert client.answer().error == (499, "client_left")
        assert client.is_closed()


def test_all_that_it_has_asked_is_answered_and_what_is_not_whole_is_not(api: Api) -> None:
    me = request("GET", "/api/v1/me", bearer(api.log_in()["access_token"]))
    live = request("GET", LIVE)
    for rest in (b"", live[:10], HALF_A_BODY):
        with wire(api) as client:
            send_all(client, me, live, me, rest)

            assert [client.answer().status for _ in range(3)] == [200] * 3
            assert client.is_closed()
    eventually(lambda: api.metric("http_requests_in_progress") == 0)


@pytest.mark.parametrize("rest", [b"GET / HT", HALF_A_BODY], ids=["head", "body"])
def test_half_a_request_is_not_waited_for(api: Api, rest: bytes) -> None:
    with wire(api) as client:
        send_all(client, rest)

        assert client.is_closed()
    eventually(lambda: api.metric("http_requests_in_progress") == 0)


def test_it_may_read_slowly(start_service: MakeService) -> None:
    api = start_service()
    whole = len(api.http.get(LARGE).content)
    with wire(api) as client:
        send_all(client, request("GET", LARGE) * 20)

        assert [len(client.answer().body) for _ in range(20)] == [whole] * 20
        assert client.is_closed()


def test_a_listener_that_sent_no_more_before_its_stream_began_has_left(
    start_service: MakeService, fresh_database_url: str
) -> None:
    api = start_service(database_url=fresh_database_url)
    listening = stream(api)
    for requests in ([listening], [request("GET", LIVE), listening]):
        with wire(api) as client:
            send_all(client, *requests)

            assert [client.answer().status for _ in requests] == [200] * len(requests)
            assert client.is_closed()
    eventually(lambda: api.metric("http_requests_in_progress") == 0)


def test_a_listener_has_left(start_service: MakeService, fresh_database_url: str) -> None:
    api = start_service(database_url=fresh_database_url)
    with wire(api) as client:
        client.send(stream(api))
        assert client.line() == b"HTTP/1.1 200 OK\r\n"
        client.send_no_more()

        eventually(lambda: api.metric("http_requests_in_progress") == 0)
    eventually(lambda: api.metric("app_http_connections") == 0)


def test_clients_that_are_gone_leave_nothing_behind(
    start_service: MakeService, fresh_database_url: str
) -> None:
    api = start_service(database_url=fresh_database_url)
    token = bearer(api.log_in()["access_token"])
    requests = [
        stream(api),
        request("GET", LARGE) * 20,
        request("GET", "/api/v1/me", token) * 20,
    ]

    def ask_and_go(number: int) -> None:
        with wire(api) as client:
            client.send(requests[number % 3])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask_and_go, range(120)))

    eventually(lambda: api.metric("http_requests_in_progress") == 0)
    eventually(lambda: api.metric("app_http_connections") <= 1)  # that of `api` itself
