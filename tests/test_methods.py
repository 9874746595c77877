"""Which methods a path has, and what is said of the others."""

import socket

import httpx
import pytest

from app.application import create_app
from app.http.routing import ASKED_BY_PROXIES
from tests.support import (
    LIVE,
    PASSWORD,
    Api,
    MakeService,
    bearer,
    error_of,
    eventually,
    make_settings,
    new_email,
    request,
    serve,
)
from tests.support.siblings import REVOCATIONS, Sibling
from tests.test_routes import ADMIN, PUBLIC, ROUTES, SIBLING, USER

GETS = sorted(name.split(" ")[1] for name in PUBLIC | USER | ADMIN | set(SIBLING) if name.startswith("GET "))
PAGES = ["/", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/swagger-ui.css"]
SESSION = "7b0c1f5e-2f5c-4bb0-9a86-5d1a6f7d3a10"


def with_values(path: str) -> str:
    return path.replace("{user_id}", "1").replace("{session_id}", SESSION)


def counted(api: Api, method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    count = api.container.metrics.registry.get_sample_value("http_request_duration_seconds_count", labels)
    return count or 0


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES.values()}))
def test_405_names_all_methods_of_a_path(api: Api, path: str) -> None:
    methods = {name.split(" ")[0] for name, route in ROUTES.items() if route.path == path}
    expected = methods | ({"HEAD"} if "GET" in methods else set())
    if path != ASKED_BY_PROXIES:
        expected |= {"OPTIONS"}

    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - expected:
        response = api.http.request(method, with_values(path))

        assert response.status_code == 405
        assert method == "HEAD" or error_of(response) == (405, "method_not_allowed")
        assert response.headers["allow"] == ", ".join(sorted(expected))


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES.values()} - {ASKED_BY_PROXIES}))
def test_options_names_them_too(api: Api, path: str) -> None:
    response = api.http.options(with_values(path))

    assert response.status_code == 204
    assert response.content == b""
    assert set(response.headers["allow"].split(", ")) > {"OPTIONS"}
    assert "access-control-allow-origin" not in response.headers


def test_a_path_of_its_own_is_no_value_of_another(api: Api) -> None:
    response = api.http.delete("/api/v1/me/sessions/ended", headers=bearer(api.log_in()["access_token"]))

    assert error_of(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/metrics", "/health", "/docs", "/api/v1/token", "/api/v1/admin/users/1"])
def test_no_path_has_a_twin_that_ends_with_a_line_break(api: Api, path: str) -> None:
    """A proxy that keeps a path to itself may not know of it."""
    for method in ("GET", "POST", "PATCH", "OPTIONS"):
        assert api.http.request(method, f"{path}%0a").status_code == 404


def test_405_is_counted_without_its_path(api: Api) -> None:
    """Or each method that a fuzzer tries would make series for each path."""
    api.http.delete("/api/v1/admin/users/1/role")

    eventually(lambda: counted(api, "DELETE", "<unmatched>", 405) >= 1)


@pytest.mark.parametrize("path", [with_values(path) for path in GETS] + PAGES)
def test_head_is_get_without_the_body(api: Api, path: str) -> None:
    token = Sibling(api).token if path == REVOCATIONS else api.log_in()["access_token"]
    headers = bearer(token)
    tells_the_moment = path in ("/metrics", REVOCATIONS)  # a cursor names the transactions that are running
    changing = {"date", "x-request-id"} | ({"content-length"} if tells_the_moment else set())

    def seen(response: httpx.Response) -> tuple[int, dict[str, str]]:
        return response.status_code, {k: v for k, v in response.headers.items() if k not in changing}

    get, head = api.http.get(path, headers=headers), api.http.head(path, headers=headers)

    assert seen(head) == seen(get)
    assert head.content == b""


@pytest.mark.parametrize("path", [LIVE, "/docs"])
def test_the_next_request_after_a_head_is_read_from_its_beginning(api: Api, path: str) -> None:
    """A body after the head of the answer to HEAD would be taken for the next answer."""
    lines = [
        f"HEAD {path} HTTP/1.1",
        "Host: x",
        "",
        "GET /api/v1/me HTTP/1.1",
        "Host: x",
        "Connection: close",
    ]
    with socket.create_connection(("127.0.0.1", httpx.URL(api.base_url).port)) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        answers = b"".join(iter(lambda: client.recv(65536), b""))

    first, second, _ = answers.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(("path", "route"), [(LIVE, LIVE), ("/api/v1/admin/users", "/api/v1/admin/users")])
def test_head_is_counted_as_head(api: Api, path: str, route: str) -> None:
    status = api.http.head(path).status_code

    eventually(lambda: counted(api, "HEAD", route, status) >= 1)


def test_head_ends_a_stream_at_its_beginning(start_service: MakeService) -> None:
    api = start_service()
    headers = bearer(Sibling(api).token) | {"Accept": "text/event-stream"}

    response = api.http.head(REVOCATIONS, headers=headers)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    eventually(lambda: counted(api, "HEAD", REVOCATIONS, 200) == 1)
    eventually(lambda: api.metric("app_revocation_listeners") == 0)


def test_head_is_not_in_the_document(api: Api) -> None:
    document = api.http.get("/openapi.json").json()

    assert not any(set(methods) & {"head", "options"} for methods in document["paths"].values())


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("POST", "/api/v1/users", "./users/"),
        ("POST", "/api/v1/users?a=b&c=%2F", "./users/?a=b&c=%2F"),
        ("GET", "/api/v1/me/", "../me"),
        ("GET", "/api/v1/admin/users/a:b%2e%20%0d%0ax/", "../a%3Ab.%20%0D%0Ax"),
        ("GET", "//evil.example/", None),
        ("GET", "/%2fevil.example/", None),
        ("GET", "/api/v1/nowhere/", None),
        ("GET", "/api/v1/me//", None),
    ],
)
def test_a_slash_too_many_or_too_few_is_redirected_without_trusting_the_host(
    api: Api, method: str, path: str, location: str | None
) -> None:
    """A client that follows sends its password there."""
    response = api.http.request(method, api.base_url + path, headers={"Host": "evil.example"})

    assert response.status_code == (404 if location is None else 307)
    assert response.headers.get("location") == location
    assert "evil" not in response.headers.get("location", "")


def test_a_client_that_follows_registers(api: Api) -> None:
    body = {"email": new_email(), "password": PASSWORD}

    response = api.http.post("/api/v1/users", json=body, follow_redirects=True)

    assert response.status_code == 201


def test_below_a_root_path_all_of_it_works(database_url: str) -> None:
    """uvicorn puts its `--root-path` before the path that a proxy asks for."""
    app = create_app(make_settings(database_url=database_url))
    with serve(app, root_path="/auth") as base_url:
        answers = [
            request(method, base_url + path)
            for method, path in [
                ("GET", LIVE),
                ("HEAD", LIVE),
                ("HEAD", "/docs"),
                ("PUT", "/api/v1/me"),
                ("POST", "/api/v1/users"),
                ("GET", "/docs"),
            ]
        ]

    assert [each.status_code for each in answers] == [200, 200, 200, 405, 307, 200]
    assert answers[3].headers["allow"] == "GET, HEAD, OPTIONS"
    assert answers[4].headers["location"] == "./users/"
    assert "/auth/openapi.json" in answers[5].text
