import json
import logging
import re
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from app.cli.running import OPERATOR
from app.models.users import Role
from app.telemetry.logs import configure_logging
from app.telemetry.repetition import Repetition
from tests.support import (
    HEALTH,
    LIVE,
    NOWHERE,
    PASSWORD,
    Api,
    EndedServer,
    Lines,
    MakeService,
    bearer,
    browser,
    error_of,
    look_into,
)

SECRET_AGENT = "marked-user-agent"


@pytest.fixture
def logged(start_service: MakeService, lines: Lines) -> Api:
    """A service that logs in JSON, at the finest level, to `lines`."""
    assert lines.lines == []
    for client in ("httpx", "httpcore"):  # the tests' own, in the same process
        logging.getLogger(client).setLevel(logging.WARNING)
    return start_service(log_level="DEBUG", log_format="json")


@pytest.fixture
def service_that_logs(
    start_service: MakeService, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> MakeService:
    """To `lines`, as pytest has put its own standard output back since that fixture."""

    def start(*arguments: Any, **settings: Any) -> Api:
        monkeypatch.setattr("sys.stdout", lines)
        return start_service(*arguments, **settings)

    return start


def test_each_request_is_one_line_of_the_log(logged: Api, lines: Lines) -> None:
    pair = logged.log_in()
    logged.http.get("/api/v1/me", headers=bearer(pair["access_token"]) | {"X-Request-ID": "req-1"})

    (line,) = [event for event in lines.requests(2) if event["request_id"] == "req-1"]

    user_id = logged.me(pair["access_token"]).json()["id"]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/v1/me", 200)
    assert line["user_id"] == user_id
    assert line["duration_ms"] > 0
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_each_security_event_is_one_line_of_the_log_with_the_request_id(logged: Api, lines: Lines) -> None:
    email = logged.register().json()["email"]
    first = logged.log_in(email)
    logged.token(email, "another password")
    second = logged.refresh(first["refresh_token"], key="k").json()
    logged.refresh(first["refresh_token"], key="k")
    logged.refresh(second["refresh_token"])
    logged.refresh(first["refresh_token"])

    for name in (
        "user.registered",
        "login.succeeded",
        "login.failed",
        "session.replayed",
        "refresh.refused",
        "session.reuse_detected",
        "session.ended",
    ):
        (event,) = lines.events(name)
        assert isinstance(event["user_id"], int)
        assert len(event["request_id"]) == 32
    assert len(lines.events("session.rotated")) == 2
    assert lines.events("session.ended")[0]["reason"] == "reuse_detected"
    assert lines.events("login.failed")[0]["reason"] == "wrong_password"


@pytest.mark.parametrize(
    ("setting", "sent", "logged"),
    [
        ("full", "203.0.113.77", {"ip_address": "203.0.113.77"}),
        ("masked", "203.0.113.77", {"ip_address": "203.0.113.0/24"}),
        ("masked", "2001:db8:1:2:3:4:5:6", {"ip_address": "2001:db8:1::/48"}),
        ("masked", "::ffff:203.0.113.77", {"ip_address": "203.0.113.0/24"}),
        ("masked", "nonsense", {"ip_address": None}),
        ("none", "203.0.113.77", {}),
    ],
)
def test_a_failed_login_is_logged_with_its_address_as_the_setting_wants(
    service_that_logs: MakeService, lines: Lines, setting: str, sent: str, logged: dict[str, str | None]
) -> None:
    api = service_that_logs(log_level="WARNING", log_format="json", log_addresses=setting)
    api.http.headers["X-Forwarded-For"] = sent

    api.token("nobody@example.com")

    (line,) = lines.events("login.failed")
    assert {name: line[name] for name in line if name == "ip_address"} == logged


def test_no_control_character_of_a_line_of_text_reaches_the_terminal(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", lines)
    configure_logging(level="INFO", json=False)

    structlog.get_logger().info("said", said="\x1b]0;title\x07\x9b31m\x7fred")
    logging.getLogger("library").warning("\x1b[31mred")

    # Other services of this process may log meanwhile.
    first, second = [line for line in lines.lines if "title" in line or "library" in line]
    assert r"\u001b]0;title\u0007\u009b31m\u007fred" in first
    assert r"\u001b[31mred" in second


def test_no_secret_is_ever_logged(logged: Api, lines: Lines) -> None:
    email = logged.register().json()["email"]
    pair = logged.log_in(email)
    logged.me(pair["access_token"])
    logged.me(pair["access_token"] + "x")
    refreshed = logged.refresh(pair["refresh_token"], key="marked-key").json()
    logged.refresh(pair["refresh_token"] + "x")
    logged.http.post("/api/v1/users/", json={"email": "marked-email", "password": PASSWORD, "x": "marked"})
    logged.http.post(
        "/api/v1/users/", content=f'{{"password": "{PASSWORD}"', headers={"Content-Type": "application/json"}
    )
    logged.token(email, "marked-password")
    logged.token("marked-email", "marked-password")
    with browser(logged.base_url, headers={"User-Agent": SECRET_AGENT}) as tab:
        tab.post("/api/v1/token", data={"username": email, "password": PASSWORD})
        tab.post("/api/v1/refresh")
        tab.get("/api/v1/me", params={"token": "marked-query"})
        tab.post("/api/v1/logout")
    logged.log_out(refreshed["access_token"])

    assert len(lines.requests(15)) == 15
    written = "\n".join(lines.lines)
    tokens = (pair["access_token"], pair["refresh_token"], refreshed["refresh_token"])
    for secret in (PASSWORD, "marked", "Bearer", *tokens, *(token.split(".")[2] for token in tokens)):
        assert secret not in written
    assert email not in written


@pytest.mark.slow
def test_no_route_logs_what_it_is_sent(logged: Api, lines: Lines) -> None:
    document = logged.http.get("/openapi.json").json()
    headers = {
        "Authorization": "Bearer marked-token",
        "Cookie": "access_token=marked-cookie; refresh_token=marked-cookie",
        "Idempotency-Key": "marked-key",
        "User-Agent": SECRET_AGENT,
        "X-Forwarded-For": "marked-address",
        "Referer": "https://marked.example.com",
        "X-Request-ID": "marked id",
    }
    fields = ("email", "password", "refresh_token", "username", "current_password", "new_password")
    body = {name: f"marked-{name}@example.com" for name in fields}
    calls = 0
    for path, operations in document["paths"].items():
        for method in operations:
            filled = re.sub(r"\{[a-z_]+\}", "marked", path)
            for content in ({}, {"json": body}, {"data": body}, {"content": b'{"password": "marked'}):
                for given in (headers, {**headers, "Authorization": "", "Origin": "https://other.example"}):
                    logged.http.request(method, filled, headers=given, params={"token": "marked"}, **content)
                    calls += 1

    assert len(lines.requests(calls + 1)) == calls + 1
    assert "marked" not in "\n".join(lines.lines)


@pytest.mark.slow
def test_every_line_of_a_server_with_workers_has_the_format(ended_server: EndedServer) -> None:
    events = [json.loads(line) for line in ended_server.output.splitlines()]
    said = [event["event"] for event in events]
    assert any(text.startswith("Started parent process") for text in said)
    assert any(text.startswith("Uvicorn running on") for text in said)
    assert any(text.startswith("Stopping parent process") for text in said)
    assert all({"event", "level", "timestamp"} <= set(event) for event in events)


def test_a_failure_is_logged_once_with_its_request_id(
    logged: Api, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("app.telemetry.exposition.Exposition.write", fail)
    response = logged.http.get("/metrics")

    assert response.status_code == 500
    (line,) = [
        event for event in map(json.loads, lines.lines) if "RuntimeError" in event.get("exception", "")
    ]
    assert line["event"] == "request.failed"
    assert line["request_id"] == response.headers["x-request-id"]


@pytest.mark.usefixtures("logged")
def test_the_libraries_log_in_the_same_format(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[36mStarted"})

    (line,) = lines.events("Started")
    assert line["logger"] == "uvicorn.error"
    assert "color_message" not in line


def test_development_logs_are_text(
    start_service: MakeService, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", lines)  # pytest has put its own back since the fixture did
    start_service(log_level="INFO")

    structlog.get_logger("app.test").info("something.happened", user_id=7)

    (line,) = [line for line in lines.lines if "something.happened" in line]
    assert "user_id=7" in line


def test_an_admins_action_is_one_line_of_the_log_with_its_name(logged: Api, lines: Lines) -> None:
    user_id = logged.register().json()["id"]

    logged.operator.admin.change(OPERATOR, user_id, role=Role.GUEST, is_active=False)

    for action in ("role_changed", "user_disabled"):
        (event,) = [each for each in lines.events("admin.action") if each["action"] == action]
        assert (event["user_id"], event["actor_id"]) == (user_id, None)


def test_the_log_explains_an_outage(
    start_service: MakeService, api: Api, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = api.log_in()["access_token"]
    monkeypatch.setattr("sys.stdout", lines)
    away = start_service(database_url=NOWHERE, log_format="json", log_level="INFO")

    assert [away.me(token).status_code for _ in range(3)] == [503] * 3

    (line,) = lines.events("database.unavailable")
    assert line["level"] == "warning"
    assert (line["reason"], line["number"]) == ("OperationalError", 1)
    assert line["said"].endswith("Connection refused")
    assert "hidden-password" not in lines.getvalue()


def test_an_outage_is_a_line_for_each_reason_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("app.telemetry.repetition.monotonic", lambda: now)
    repetition = Repetition(10)

    first = [repetition.due("refused") for _ in range(3)], repetition.due("silent")
    now = 9.9
    soon = repetition.due("refused")
    now = 10.0

    assert (first, soon, repetition.due("refused")) == (([1, None, None], 1), None, 4)


def test_checks_that_succeed_can_be_left_out_of_the_log(
    start_service: MakeService, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", lines)
    checks = ("/metrics", HEALTH, LIVE)
    settings = {"log_format": "json", "log_level": "INFO", "metrics_token": "a token of the tests"}
    silent = start_service(log_health_checks=False, **settings)

    statuses = [silent.http.get(path, headers=bearer("a token of the tests")).status_code for path in checks]
    assert silent.http.get("/metrics").status_code == 401
    silent.register()

    assert statuses == [200] * 3
    assert [(line["route"], line["status"]) for line in lines.requests(2)] == [
        ("/metrics", 401),
        ("/api/v1/users/", 201),
    ]


def test_the_pages_of_the_documentation_have_their_routes_in_the_log(logged: Api, lines: Lines) -> None:
    files = "/static-offline-docs"
    paths = ("/docs", "/redoc", "/openapi.json", f"{files}/swagger-ui.css", f"{files}/x")

    for path in paths:
        logged.http.get(path)

    names = [line["route"] for line in lines.requests(len(paths))]
    assert names == ["/docs", "/redoc", "/openapi.json", files, files]


def test_the_log_does_not_quote_a_row_that_the_database_refuses(
    start_service: MakeService, fresh_database_url: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = look_into(fresh_database_url)
    with engine.connect() as connection:
        connection.execute(text("ALTER TABLE users ADD COLUMN unknown int NOT NULL"))
    engine.dispose()
    monkeypatch.setattr("sys.stdout", lines)
    api = start_service(database_url=fresh_database_url, log_format="json")

    assert error_of(api.register("quoted@example.com")) == (500, "internal_error")

    (line,) = lines.events("request.failed")
    assert "NotNullViolation" in line["exception"]
    assert "quoted@" not in line["exception"]
    assert "bcrypt" not in line["exception"]
