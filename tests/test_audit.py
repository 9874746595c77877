"""The trail: written with what it tells of, read by administrators alone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.container import Container
from app.database.transactions import Rows
from app.services.operations.audit import AuditFilter
from tests.support import (
    PASSWORD,
    Api,
    Lines,
    MakeService,
    MovableClock,
    at_once,
    bearer,
    browser,
    error_of,
    make_settings,
    new_email,
)
from tests.support.accounts import Admin, register
from tests.support.blocks import blocks_read

AUDIT = "/api/v1/admin/audit"
Event = dict[str, Any]


@pytest.fixture
def api(sole_api: Api) -> Api:
    return sole_api


@pytest.fixture
def admin(api: Api, sole_database: Engine) -> Admin:
    return Admin(api, sole_database)


@pytest.fixture
def lone_admin(start_service: MakeService, fresh_database_url: str, fresh_database: Engine) -> Admin:
    """For tests that change the tables."""
    return Admin(start_service(database_url=fresh_database_url), fresh_database)


def trail(admin: Admin, **query: Any) -> list[Event]:
    response = admin.api.http.get(AUDIT, params=query, headers=bearer(admin.token))
    assert response.status_code == 200, response.text
    found: list[Event] = response.json()
    return found


def test_each_deed_leaves_its_audit_event(admin: Admin) -> None:
    service = admin.api
    email = new_email()
    user = register(service, email)
    pair = service.log_in(email)
    service.token(email, "wrong password")
    service.token("nobody@example.com")
    passwords = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    changed = service.http.put("/api/v1/me/password", json=passwords, headers=bearer(pair["access_token"]))
    newest = changed.json()["refresh_token"]
    newer = service.refresh(newest).json()
    service.refresh(newer["refresh_token"])
    service.refresh(newest)
    admin.change(user["id"], role="guest")
    admin.change(user["id"], is_active=False)
    admin.change(user["id"], is_active=True)
    admin.call("DELETE", f"/{user['id']}")

    events = [(event["event"], event["actor_id"]) for event in reversed(trail(admin, user_id=user["id"]))]

    assert events == [
        ("user.registered", user["id"]),
        ("login.succeeded", user["id"]),
        ("login.failed", None),
        ("user.password_changed", user["id"]),
        ("session.ended", user["id"]),
        ("session.reuse_detected", None),
        ("session.ended", None),
        ("user.role_changed", admin.id),
        ("user.disabled", admin.id),
        ("user.enabled", admin.id),
        ("user.deleted", admin.id),
    ]
    details = {event["event"]: event["details"] for event in reversed(trail(admin, user_id=user["id"]))}
    assert details["user.role_changed"] == {"from": "user", "to": "guest"}
    assert details["login.failed"] == {"reason": "wrong_password"}
    assert details["session.ended"]["reason"] == "reuse_detected"
    stranger = trail(admin, event="login.failed")[0]
    assert (stranger["user_id"], stranger["details"]) == (None, {"reason": "unknown_email"})


def test_an_audit_event_says_from_where_and_in_which_request(admin: Admin) -> None:
    with browser(admin.api.base_url, headers={"User-Agent": "Tab/1", "X-Request-ID": "req-7"}) as tab:
        tab.post("/api/v1/token", data={"username": admin.email, "password": PASSWORD})

    event = trail(admin, event="login.succeeded")[0]

    assert set(event) == {
        "id", "at", "actor_id", "user_id", "event", "ip_address", "user_agent", "request_id", "details",
    }  # fmt: skip
    assert (event["ip_address"], event["user_agent"], event["request_id"]) == ("127.0.0.1", "Tab/1", "req-7")


def test_the_audit_trail_holds_no_secret_and_no_email(admin: Admin, sole_database: Engine) -> None:
    service = admin.api
    email = new_email()
    service.register(email, "marked-password")
    pair = service.token(email, "marked-password").json()
    service.token(email, "marked-guess")
    service.log_out(pair["access_token"])

    with sole_database.connect() as connection:
        rows = str(connection.execute(text("SELECT * FROM audit_events")).all())

    for secret in ("marked", email, "$bcrypt", pair["access_token"], pair["refresh_token"]):
        assert secret not in rows


@pytest.mark.parametrize("table", ["audit_events"])
def test_what_the_audit_trail_cannot_record_does_not_happen(
    lone_admin: Admin, fresh_database: Engine, table: str
) -> None:
    service = lone_admin.api
    user = register(service)
    pair = service.log_in(user["email"])
    with fresh_database.connect() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO away"))

    answers = [
        lone_admin.change(user["id"], role="guest"),
        lone_admin.change(user["id"], is_active=False),
        lone_admin.call("DELETE", f"/{user['id']}"),
        service.register(email := new_email()),
        service.log_out(pair["access_token"]),
    ]
    with fresh_database.connect() as connection:
        connection.execute(text(f"ALTER TABLE away RENAME TO {table}"))

    assert {error_of(answer) for answer in answers} == {(500, "internal_error")}
    assert lone_admin.call("GET", f"/{user['id']}").json() == user
    assert service.register(email).status_code == 201
    assert service.refresh(pair["refresh_token"]).status_code == 200


def test_what_does_not_happen_is_not_in_the_audit_trail(lone_admin: Admin, fresh_database: Engine) -> None:
    user = register(lone_admin.api)
    with fresh_database.connect() as connection:
        connection.execute(text("ALTER TABLE refresh_tokens RENAME TO away"))
    disabled = lone_admin.change(user["id"], is_active=False)
    with fresh_database.connect() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO refresh_tokens"))

    assert error_of(disabled) == (500, "internal_error")
    assert [event["event"] for event in trail(lone_admin, user_id=user["id"])] == ["user.registered"]
    assert lone_admin.api.metric("app_admin_actions_total", action="user_disabled") == 0


def test_the_audit_trail_is_filtered_and_paged(admin: Admin) -> None:
    service = admin.api
    users = [register(service)["id"] for _ in range(3)]
    for user_id in users:
        admin.change(user_id, role="guest")

    changes = trail(admin, event="user.role_changed", actor_id=admin.id)
    assert [event["user_id"] for event in changes] == users[::-1]
    middle = changes[1]["at"]
    assert [event["user_id"] for event in trail(admin, event="user.role_changed", since=middle)] == users[
        :0:-1
    ]
    assert [event["user_id"] for event in trail(admin, event="user.role_changed", until=middle)] == users[:1]

    path, seen = f"{AUDIT}?event=user.role_changed&limit=2", []
    while path:
        response = service.http.get(path, headers=bearer(admin.token))
        seen += [event["id"] for event in response.json()]
        path = response.headers.get("link", "").partition(">")[0].lstrip("<")
    assert seen == [event["id"] for event in changes]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "event=unknown",
        "since=yesterday",
        "until=0.5",
        "until=1700000000",
        "until=2026-01-01",
        "since=2026-01-01T00:00",
        "since=0001-01-01T00:00%2B01:00",
        "user_id=x",
    ],
)
def test_a_query_of_the_audit_trail_that_does_not_fit_is_refused(admin: Admin, query: str) -> None:
    response = admin.api.http.get(f"{AUDIT}?{query}", headers=bearer(admin.token))

    assert error_of(response) == (400, "validation_error")


def test_only_an_admin_reads_the_audit_trail(api: Api) -> None:
    user = api.log_in()["access_token"]

    assert error_of(api.http.get(AUDIT)) == (401, "not_authenticated")
    assert error_of(api.http.get(AUDIT, headers=bearer(user))) == (403, "forbidden")


def test_refused_administration_is_in_the_audit_trail_and_in_the_log(
    start_service: MakeService,
    fresh_database_url: str,
    fresh_database: Engine,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", lines)  # pytest has put its own back since the fixture did
    service = start_service(database_url=fresh_database_url, log_level="WARNING", log_format="json")
    admin = Admin(service, fresh_database)
    user = register(service)
    headers = bearer(service.log_in(user["email"])["access_token"]) | {"User-Agent": "Curious/1"}

    refused = service.http.patch(f"/api/v1/admin/users/{admin.id}", json={"role": "user"}, headers=headers)

    assert error_of(refused) == (403, "forbidden")
    (event,) = trail(admin, event="admin.refused")
    assert (event["actor_id"], event["user_id"]) == (user["id"], None)
    assert (event["ip_address"], event["user_agent"]) == ("127.0.0.1", "Curious/1")
    details = {"method": "PATCH", "route": "/api/v1/admin/users/{user_id}"}
    assert event["details"] == details
    (line,) = lines.events("admin.refused")
    assert {name: line[name] for name in details} == details
    assert (line["user_id"], line["ip_address"]) == (user["id"], "127.0.0.1")


def test_refused_administration_is_recorded_once_a_minute_for_each_user(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    clock = MovableClock()
    service = start_service(database_url=fresh_database_url, clock=clock)
    admin = Admin(service, fresh_database)
    anna, bert = (service.log_in()["access_token"] for _ in range(2))

    def call_often(token: str) -> None:
        answers = at_once(20, lambda _: service.http.get(AUDIT, headers=bearer(token)))
        assert {answer.status_code for answer in answers} == {403}

    call_often(anna)
    call_often(bert)
    recorded = [len(trail(admin, event="admin.refused"))]
    clock.move(seconds=59)
    call_often(anna)
    recorded.append(len(trail(admin, event="admin.refused")))
    clock.move(seconds=1)
    call_often(anna)
    recorded.append(len(trail(admin, event="admin.refused")))

    assert recorded == [2, 2, 3]


def test_refused_administration_is_recorded_before_it_is_answered(
    lone_admin: Admin, fresh_database: Engine
) -> None:
    user = bearer(lone_admin.api.log_in()["access_token"])
    with fresh_database.connect() as connection:
        connection.execute(text("ALTER TABLE audit_events RENAME TO away"))
        unrecorded = lone_admin.api.http.get(AUDIT, headers=user)
        connection.execute(text("ALTER TABLE away RENAME TO audit_events"))

    assert error_of(unrecorded) == (500, "internal_error")
    assert trail(lone_admin, event="admin.refused") == []
    assert error_of(lone_admin.api.http.get(AUDIT, headers=user)) == (403, "forbidden")
    assert len(trail(lone_admin, event="admin.refused")) == 1


def add_events(engine: Engine, now: datetime, minutes: Sequence[int]) -> None:
    """Each so many minutes before `now`, in the order of their ids."""
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO audit_events (at, event, details)"
                " SELECT :now - ago * interval '1 minute', 'login.failed', '{}'"
                " FROM unnest(CAST(:minutes AS int[])) WITH ORDINALITY AS given (ago, place) ORDER BY place"
            ),
            {"now": now, "minutes": list(minutes)},
        )
        connection.execute(text("ANALYZE"))


def test_a_page_of_long_ago_is_found_without_reading_what_came_after(
    fresh_database_url: str, fresh_database: Engine
) -> None:
    container, now = Container(make_settings(database_url=fresh_database_url)), datetime.now(UTC)
    add_events(fresh_database, now, range(20_000 * 60, 0, -60))
    since, until = now - timedelta(hours=19_000, minutes=1), now - timedelta(hours=18_995)
    pages: list[Rows] = []

    def read() -> None:
        pages.append(container.audit.list(AuditFilter(until=until), before=None, limit=10))
        pages.append(container.audit.list(AuditFilter(since=since, until=until), before=None, limit=10))

    assert blocks_read(fresh_database, container, read) < 20
    assert [len(page) for page in pages] == [10, 5]


def test_events_whose_times_disagree_with_their_ids_are_found(
    fresh_database_url: str, fresh_database: Engine
) -> None:
    container, now = Container(make_settings(database_url=fresh_database_url)), datetime.now(UTC)
    add_events(fresh_database, now, [200, 90, 140, 101, 150, 98])  # replicas whose clocks are apart

    def found(since: datetime | None = None, until: datetime | None = None) -> list[int]:
        page = container.audit.list(AuditFilter(since=since, until=until), before=None, limit=10)
        return [round((now - event.at).total_seconds() / 60) for event in page]

    assert found() == [98, 150, 101, 140, 90, 200]
    assert found(until=now - timedelta(minutes=100)) == [150, 101, 140, 200]
    assert found(since=now - timedelta(minutes=100)) == [98, 90]
    container.close()


def test_audit_events_are_forgotten_after_their_retention(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    clock = MovableClock()
    service = start_service(database_url=fresh_database_url, clock=clock, audit_retention_days=10)
    service.new_user()
    clock.move(days=9)
    service.new_user()
    clock.move(days=1)

    pruned = service.operator.cleanup.prune()

    assert pruned is not None
    assert pruned.audit_events == 1
    with fresh_database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit_events")).scalar_one() == 1
