"""The short way past FastAPI and SQLAlchemy answers as the long one does."""

import socket
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from app import application
from app.http.direct import plan_routes
from app.routers import ROUTERS
from app.services.accounts.profile import _SELECT_ACTIVE
from tests.support import LIVE, Api, MakeService, bearer, error_of, eventually

JSON = {"Content-Type": "application/json"}
REFRESH = "/api/v1/refresh"
BODIES: list[tuple[dict[str, str], bytes]] = [
    (JSON, b""),
    (JSON, b"null"),
    (JSON, b"{}"),
    (JSON, b"{"),
    (JSON, b"[]"),
    (JSON, b'"text"'),
    (JSON, b"\xff\xfe"),
    (JSON, b"[" * 60_000),
    (JSON, b'{"refresh_token": 5}'),
    (JSON, b'{"refresh_token": null}'),
    (JSON, b'{"refresh_token": "x", "more": 1}'),
    (JSON, b'{"refresh_token": ""}'),
    (JSON, b'{"refresh_token": "' + b"x" * 70_000 + b'"}'),
    ({}, b'{"refresh_token": "x"}'),
    ({"Content-Type": "text/plain"}, b'{"refresh_token": "x"}'),
    ({"Content-Type": "Application/JSON; charset=utf-8"}, b'{"refresh_token": "x"}'),
    ({"Content-Type": "application/vnd.api+json"}, b'{"refresh_token": "x"}'),
    ({**JSON, "Idempotency-Key": "k" * 256}, b'{"refresh_token": "x"}'),
    ({**JSON, "Idempotency-Key": ""}, b'{"refresh_token": "x"}'),
    ({"Cookie": "refresh_token=x"}, b""),
    ({"Cookie": "refresh_token=x", "Sec-Fetch-Site": "cross-site"}, b""),
]
TOKENS = ["", "x", "Bearer", "Bearer x", "bearer  x", "Basic x", "Bearer x y"]


@pytest.fixture(scope="module")
def long_way(start_lasting_service: MakeService) -> Api:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "plan_routes", lambda _: {})
        return start_lasting_service()


def seen(response: httpx.Response) -> Any:
    changing = ("date", "x-request-id", "content-length")
    headers = {name: value for name, value in response.headers.items() if name not in changing}
    return response.status_code, headers, response.json()


@pytest.mark.parametrize(("headers", "body"), BODIES)
def test_a_refresh_is_read_as_fastapi_reads_it(
    api: Api, long_way: Api, headers: dict[str, str], body: bytes
) -> None:
    headers = headers | {"Host": "auth.example.com"}
    short, long = (each.http.post(REFRESH, headers=headers, content=body) for each in (api, long_way))

    assert seen(short) == seen(long)
    assert short.status_code >= 400


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_failure_of_ours(
    start_service: MakeService,
) -> None:
    api = start_service()
    lines = [
        f"POST {REFRESH} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        "Content-Length: 9",
        "",
        "{",
    ]
    with socket.create_connection(("127.0.0.1", httpx.URL(api.base_url).port)) as client:
        client.sendall("\r\n".join(lines).encode())
    counted = {"method": "POST", "route": REFRESH}

    eventually(lambda: api.metric("http_request_duration_seconds_count", **counted, status="400") == 1)

    assert api.metric("http_request_duration_seconds_count", **counted, status="500") == 0


@pytest.mark.parametrize("authorization", TOKENS)
def test_a_token_is_refused_alike(api: Api, long_way: Api, authorization: str) -> None:
    headers = {"Authorization": authorization}
    short, long = (each.http.get("/api/v1/me", headers=headers) for each in (api, long_way))

    assert seen(short) == seen(long)
    assert short.status_code == 401


def test_what_is_good_is_answered_alike(api: Api, long_way: Api) -> None:
    pair = api.log_in()
    token, refresh = bearer(pair["access_token"]), {"refresh_token": pair["refresh_token"]}
    key = {"Idempotency-Key": "one"}

    assert seen(api.http.get("/api/v1/me", headers=token)) == seen(
        long_way.http.get("/api/v1/me", headers=token)
    )
    assert seen(api.http.get(LIVE)) == seen(long_way.http.get(LIVE))
    first = api.http.post(REFRESH, json=refresh, headers=key)
    again = long_way.http.post(REFRESH, json=refresh, headers=key)
    assert first.json()["refresh_token"] == again.json()["refresh_token"]
    assert first.headers.keys() == again.headers.keys()


def test_the_hot_routes_go_the_short_way_and_those_with_parameters_do_not() -> None:
    plans = plan_routes(ROUTERS)

    assert {("GET", "/api/v1/me"), ("POST", REFRESH), ("GET", LIVE)} <= set(plans)
    assert ("POST", "/api/v1/logout") not in plans
    assert not any("{" in path for _, path in plans)


def test_prepared_statements_give_what_sqlalchemy_gives(api: Api) -> None:
    token = api.log_in()["access_token"]
    (session,) = api.http.get("/api/v1/me/sessions", headers=bearer(token)).json()
    parameters = {
        "user_id": api.me(token).json()["id"],
        "session_id": UUID(session["id"]),
        "now": datetime.now(UTC),
    }
    db = api.operator.resources.requests
    (plain,) = db.execute(_SELECT_ACTIVE, parameters)
    connection = db.engine.raw_connection()
    (prepared,) = _SELECT_ACTIVE.run(connection, parameters)
    connection.close()

    assert prepared._fields == tuple(plain._fields)
    assert [(value, type(value)) for value in prepared] == [(value, type(value)) for value in plain]


def test_a_standby_costs_the_pool_of_prepared_statements_too(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    api = start_service(database_url=fresh_database_url)
    pair = api.log_in()
    with fresh_database.connect() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        backends = text(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = :name AND pid <> pg_backend_pid()"
        )
        connection.execute(backends, {"name": name})
        refused = api.refresh(pair["refresh_token"])
        connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))

    assert error_of(refused) == (503, "unavailable")
    assert api.metric("app_database_errors_total", sqlstate_class="25") == 1
    assert api.refresh(pair["refresh_token"]).status_code == 200
