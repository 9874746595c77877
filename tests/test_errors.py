"""Every error has one shape, whoever raises it."""

import httpx
import pytest
from fastapi import Request

from app.application import create_app
from tests.support import PASSWORD, Api, error_of, make_settings, new_email, serve

JSON = {"Content-Type": "application/json"}


def test_an_unknown_path_is_404(api: Api) -> None:
    assert error_of(api.http.get("/api/v1/nowhere")) == (404, "not_found")


def test_an_unknown_method_is_405_and_says_which_are_known(api: Api) -> None:
    response = api.http.delete("/api/v1/me")

    assert error_of(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b"null", b'"text"', b"\xff\xfe", b"{" * 20_000, b"[" * 60_000]
)
def test_a_body_that_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    response = api.http.post("/api/v1/users/", content=body, headers=JSON)

    assert error_of(response) == (400, "validation_error")
    assert all(set(problem) == {"loc", "msg", "type"} for problem in response.json()["detail"])


def test_json_without_its_content_type_is_refused(api: Api) -> None:
    content = f'{{"email": "{new_email()}", "password": "{PASSWORD}"}}'

    response = api.http.post("/api/v1/users/", content=content, headers={"Content-Type": "text/plain"})

    assert error_of(response) == (400, "validation_error")
    assert PASSWORD not in response.text


def test_a_broken_multipart_form_is_refused(api: Api) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}

    response = api.http.post("/api/v1/token", content=b"--y\r\nbroken", headers=headers)

    assert error_of(response) == (400, "validation_error")


def test_a_file_where_text_belongs_is_refused(api: Api) -> None:
    files: list[tuple[str, tuple[str | None, bytes]]] = [
        ("username", ("name.txt", b"content")),
        ("password", (None, PASSWORD.encode())),
    ]

    assert error_of(api.http.post("/api/v1/token", files=files)) == (400, "validation_error")


@pytest.mark.parametrize("path", ["/api/v1/users/", "/api/v1/token", "/api/v1/refresh", "/api/v1/logout"])
def test_a_body_over_the_limit_is_413_whether_declared_or_not(api: Api, path: str) -> None:
    content_type = "application/x-www-form-urlencoded" if path.endswith("token") else "application/json"
    body = b"x" * (64 * 1024 + 1)

    declared = api.http.post(path, content=body, headers={"Content-Type": content_type})
    counted = api.http.post(path, content=iter([body]), headers={"Content-Type": content_type})

    assert error_of(declared) == (413, "payload_too_large")
    assert error_of(counted) == (413, "payload_too_large")


def test_a_body_at_the_limit_is_taken(api: Api) -> None:
    body = b'{"email": "%s", "password": "%s"}' % (new_email().encode(), PASSWORD.encode())

    response = api.http.post("/api/v1/users/", content=body.ljust(64 * 1024), headers=JSON)

    assert response.status_code == 201


def test_an_error_that_nobody_foresaw_leaks_nothing(database_url: str) -> None:
    app = create_app(make_settings(database_url=database_url, cors_origins="https://board.example.com"))

    @app.get("/broken")
    async def broken(_: Request) -> None:
        raise RuntimeError("marked secret")

    with serve(app) as base_url:
        response = httpx.get(f"{base_url}/broken", headers={"Origin": "https://board.example.com"})

    assert error_of(response) == (500, "internal_error")
    assert "marked" not in response.text
    assert response.headers["x-request-id"]
    assert response.headers["access-control-allow-origin"] == "https://board.example.com"
    counted = app.state.container.metrics.registry.get_sample_value(
        "http_request_duration_seconds_count", {"method": "GET", "route": "/broken", "status": "500"}
    )
    assert counted == 1


def test_a_request_id_is_taken_over_and_given_back(api: Api) -> None:
    response = api.http.get("/api/v1/health/live", headers={"X-Request-ID": "abc-123"})

    assert response.headers["x-request-id"] == "abc-123"


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 65, b'a"b', "ä".encode()])
def test_an_unusable_request_id_is_replaced(api: Api, given: bytes) -> None:
    request_id = api.http.get("/api/v1/health/live", headers={b"X-Request-ID": given}).headers["x-request-id"]

    assert len(request_id) == 32
    assert request_id.isalnum()
