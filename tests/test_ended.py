"""Ended means ended: no token of an ended session opens anything, and sessions do not pile up."""

import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from jose import jwt
from sqlalchemy import Engine, text

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
    eventually,
    new_email,
)
from tests.support.accounts import USERS, Admin, end_reasons, session_of
from tests.support.settings import SECRET_KEY

SESSIONS = "/api/v1/me/sessions"
REVOKED = (401, "token_revoked")


def live(api: Api, pair: dict[str, Any], **params: str) -> list[str]:
    response = api.http.get(SESSIONS, headers=bearer(pair["access_token"]), params=params)
    assert response.status_code == 200, response.text
    return [session["id"] for session in response.json()]


def change_password(api: Api, pair: dict[str, Any]) -> None:
    body = {"current_password": PASSWORD, "new_password": "another horse staple"}
    changed = api.http.put("/api/v1/me/password", json=body, headers=bearer(pair["access_token"]))
    assert changed.status_code == 200


def log_out(api: Api, pair: dict[str, Any]) -> None:
    assert api.log_out(pair["access_token"]).status_code == 204


def end_the_others(api: Api, pair: dict[str, Any]) -> None:
    assert api.http.delete(SESSIONS, headers=bearer(pair["access_token"])).status_code == 204


def test_an_admins_own_copied_token_is_worth_nothing_after_a_password_change(
    sole_api: Api, sole_database: Engine
) -> None:
    admin = Admin(sole_api, sole_database)
    change_password(sole_api, {"access_token": admin.token})

    refused = admin.call("POST", json={"email": new_email(), "password": PASSWORD, "role": "admin"})

    assert error_of(refused) == REVOKED


@pytest.mark.parametrize("end", [change_password, log_out, end_the_others])
def test_a_copied_access_token_of_an_admin_is_worth_nothing_once_its_session_has_ended(
    sole_api: Api, sole_database: Engine, end: Callable[[Api, dict[str, Any]], None]
) -> None:
    admin = Admin(sole_api, sole_database)
    owner = sole_api.log_in(admin.email)
    assert admin.call("GET").status_code == 200
    end(sole_api, owner)

    refused = admin.call("POST", json={"email": new_email(), "password": PASSWORD, "role": "admin"})

    assert error_of(refused) == REVOKED
    assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert error_of(sole_api.me(admin.token)) == REVOKED
    assert error_of(sole_api.http.get(SESSIONS, headers=bearer(admin.token))) == REVOKED


def test_a_copied_access_token_does_not_end_the_owners_new_sessions(api: Api) -> None:
    email = api.new_user()
    copied = api.log_in(email)["access_token"]
    assert api.log_out(copied).status_code == 204
    newer = api.log_in(email)

    assert error_of(api.log_out(copied)) == REVOKED
    assert api.me(newer["access_token"]).status_code == 200


def test_a_reused_refresh_token_ends_the_access_tokens_too(start_service: MakeService) -> None:
    api = start_service(refresh_reuse_leeway_seconds=0)
    first = api.log_in()
    second = api.refresh(first["refresh_token"]).json()
    assert api.me(first["access_token"]).status_code == api.me(second["access_token"]).status_code == 200

    assert error_of(api.refresh(first["refresh_token"])) == (401, "refresh_token_reused")

    assert error_of(api.me(first["access_token"])) == REVOKED
    assert error_of(api.me(second["access_token"])) == REVOKED


def test_a_user_who_was_disabled_and_enabled_has_to_log_in_again(
    sole_api: Api, sole_database: Engine
) -> None:
    admin = Admin(sole_api, sole_database)
    pair = sole_api.log_in()
    user_id = sole_api.me(pair["access_token"]).json()["id"]
    admin.change(user_id, is_active=False)
    assert error_of(sole_api.me(pair["access_token"])) == (401, "invalid_token")
    admin.change(user_id, is_active=True)

    assert error_of(sole_api.me(pair["access_token"])) == REVOKED
    assert sole_api.refresh(pair["refresh_token"]).status_code == 401


def test_an_access_token_of_another_users_session_is_refused(api: Api) -> None:
    mine, other = api.log_in(), api.log_in()
    claims = jwt.get_unverified_claims(mine["access_token"]) | {"sid": session_of(other)}
    minted = jwt.encode(claims, SECRET_KEY, headers={"typ": "at+jwt"})

    assert error_of(api.me(minted)) == REVOKED


def test_an_access_token_without_a_session_is_judged_by_its_user_alone(api: Api) -> None:
    email = api.new_user()
    pair = api.log_in(email)
    claims = jwt.get_unverified_claims(pair["access_token"])
    del claims["sid"]
    minted = jwt.encode(claims, SECRET_KEY, headers={"typ": "at+jwt"})
    log_out(api, pair)

    assert api.me(minted).status_code == 200
    body = {"current_password": PASSWORD, "new_password": "another horse staple"}
    changed = api.http.put("/api/v1/me/password", json=body, headers=bearer(minted))
    assert (changed.status_code, changed.content) == (204, b"")


def test_a_login_beyond_the_limit_ends_the_least_recently_used_session(
    start_service: MakeService, engine: Engine
) -> None:
    clock = MovableClock()
    api = start_service(clock=clock, sessions_per_user=3)
    email = api.new_user()
    pairs = []
    for _ in range(3):
        pairs.append(api.log_in(email))
        clock.move(seconds=20)
    assert api.refresh(pairs[0]["refresh_token"]).status_code == 200
    clock.move(seconds=20)

    newest = api.log_in(email)

    assert end_reasons(engine, *pairs, newest) == [None, "session_limit", None, None]
    assert error_of(api.me(pairs[1]["access_token"])) == REVOKED
    assert len(live(api, newest)) == 3
    assert api.metric("app_sessions_ended_total", reason="session_limit") == 1


def test_logins_at_once_do_not_get_past_the_limit(start_service: MakeService) -> None:
    api = start_service(sessions_per_user=3)
    email = api.new_user()

    logins = at_once(12, lambda _: api.token(email).status_code)

    assert set(logins) == {200}
    assert len(live(api, api.log_in(email))) == 3


def test_a_login_at_a_replica_whose_clock_is_behind_does_not_end_itself(
    start_service: MakeService, engine: Engine
) -> None:
    clock = MovableClock()
    api = start_service(clock=clock, sessions_per_user=1)
    email = api.new_user()
    older = api.log_in(email)
    clock.move(seconds=-1)

    newer = api.log_in(email)

    assert end_reasons(engine, older, newer) == ["session_limit", None]


def test_a_login_replaces_the_session_that_the_browser_had(api: Api, engine: Engine) -> None:
    email = api.new_user()
    elsewhere = api.log_in(email)
    with browser(api.base_url) as tab:
        first = tab.post("/api/v1/token", data={"username": email, "password": PASSWORD}).json()
        second = tab.post("/api/v1/token", data={"username": email, "password": PASSWORD}).json()

    assert end_reasons(engine, elsewhere, first, second) == [None, "replaced", None]
    assert error_of(api.me(first["access_token"])) == REVOKED


def test_a_failed_login_replaces_no_session(api: Api, engine: Engine) -> None:
    email = api.new_user()
    with browser(api.base_url) as tab:
        pair = tab.post("/api/v1/token", data={"username": email, "password": PASSWORD}).json()
        refused = tab.post("/api/v1/token", data={"username": email, "password": "a wrong password"})

    assert refused.status_code == 401
    assert end_reasons(engine, pair) == [None]


def test_a_login_replaces_no_session_of_another_user(api: Api, engine: Engine) -> None:
    with browser(api.base_url) as tab:
        hers = tab.post("/api/v1/token", data={"username": api.new_user(), "password": PASSWORD}).json()
        his = tab.post("/api/v1/token", data={"username": api.new_user(), "password": PASSWORD}).json()

    assert end_reasons(engine, hers, his) == [None, None]


@pytest.mark.parametrize("presented", ["used", "nonsense"])
def test_a_login_with_a_refresh_cookie_that_is_worth_nothing_replaces_no_session(
    api: Api, engine: Engine, presented: str
) -> None:
    email = api.new_user()
    pair = api.log_in(email)
    newer = api.refresh(pair["refresh_token"]).json()
    cookie = pair["refresh_token"] if presented == "used" else "nonsense"

    response = api.http.post(
        "/api/v1/token",
        data={"username": email, "password": PASSWORD},
        headers={"Cookie": f"refresh_token={cookie}"},
    )

    assert response.status_code == 200
    assert end_reasons(engine, newer, response.json()) == [None, None]


def test_sessions_are_listed_page_by_page(sole_api: Api, sole_database: Engine) -> None:
    admin = Admin(sole_api, sole_database)
    email = sole_api.new_user()
    pairs = [sole_api.log_in(email) for _ in range(5)]
    user_id = sole_api.me(pairs[0]["access_token"]).json()["id"]
    for url, token in (
        (SESSIONS, pairs[0]["access_token"]),
        (f"{USERS}/{user_id}/sessions", admin.token),
    ):
        everything = [each["id"] for each in sole_api.http.get(url, headers=bearer(token)).json()]
        seen, next_page = [], f"{url}?limit=2"
        for _ in range(3):
            page = sole_api.http.get(next_page, headers=bearer(token))
            seen.append([each["id"] for each in page.json()])
            next_page = page.links["next"]["url"] if "next" in page.links else ""

        assert [len(page) for page in seen] == [2, 2, 1]
        assert next_page == ""
        assert (
            [each for page in seen for each in page]
            == everything
            == [session_of(pair) for pair in reversed(pairs)]
        )


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=5", "after="])
def test_a_page_of_sessions_that_cannot_be_is_refused(api: Api, query: str) -> None:
    response = api.http.get(f"{SESSIONS}?{query}", headers=bearer(api.log_in()["access_token"]))

    assert error_of(response) == (400, "validation_error")


def test_a_page_after_a_session_of_nobody_is_empty(api: Api) -> None:
    assert live(api, api.log_in(), after=str(uuid4())) == []


def test_a_page_after_the_session_of_another_user_tells_nothing_of_it(api: Api) -> None:
    mine, other = api.log_in(), api.log_in()

    assert live(api, mine, after=session_of(other)) == []


@pytest.fixture
def logged(start_service: MakeService, lines: Lines) -> Api:
    assert lines.lines == []
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return start_service(sessions_per_user=10_000, log_level="INFO", log_format="json")


def test_logging_out_of_many_sessions_is_one_line_of_the_log(
    logged: Api, lines: Lines, engine: Engine
) -> None:
    api = logged
    email = api.new_user()
    pair = api.log_in(email)
    with engine.connect() as connection:
        copies = text(
            "INSERT INTO refresh_tokens (id, user_id, token_id, created_at, expires_at)"
            " SELECT gen_random_uuid(), user_id, gen_random_uuid(), created_at, expires_at"
            " FROM refresh_tokens, generate_series(1, 10000) WHERE id = :id"
        )
        connection.execute(copies, {"id": session_of(pair)})

    log_out(api, pair)

    eventually(lambda: lines.events("http.request")[-1]["route"] == "/api/v1/logout")
    (event,) = lines.events("sessions.ended")
    written = [line for line in lines.lines if event["request_id"] in line]
    assert (event["number"], event["reason"], len(event["session_ids"])) == (10_001, "logout_all", 50)
    assert len(written) == 2  # this one, and the one of the request
    assert len("".join(written)) < 4096
    assert api.metric("app_sessions_ended_total", reason="logout_all") == 10_000
    assert api.metric("app_sessions_ended_total", reason="logout") == 1


@pytest.mark.parametrize(("seconds", "reason"), [(2, None), (3, "reuse_detected")])
def test_a_clock_that_was_ahead_is_no_leeway(
    start_service: MakeService, engine: Engine, seconds: int, reason: str | None
) -> None:
    clock = MovableClock()
    api = start_service(clock=clock)
    pair = api.log_in()
    newer = api.refresh(pair["refresh_token"]).json()
    clock.move(seconds=-seconds)

    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert end_reasons(engine, newer) == [reason]
