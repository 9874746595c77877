from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from tests.support import (
    NOWHERE,
    PASSWORD,
    Api,
    MakeService,
    MovableClock,
    at_once,
    bearer,
    browser,
    error_of,
)
from tests.support.accounts import end_reasons


def clears_cookies(response: httpx.Response) -> bool:
    cleared = [
        header.split(";")[0] for header in response.headers.get_list("set-cookie") if "Max-Age=0" in header
    ]
    return sorted(cleared) == ["access_token=", "refresh_token="]


def test_a_logout_ends_every_session_of_the_user(api: Api, engine: Engine) -> None:
    email = api.new_user()
    here, there = api.log_in(email), api.log_in(email)
    somebody_else = api.log_in()

    response = api.log_out(here["access_token"])

    assert response.status_code == 204
    assert response.content == b""
    assert clears_cookies(response)
    for pair in (here, there):
        assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert api.refresh(somebody_else["refresh_token"]).status_code == 200
    assert end_reasons(engine, here, there, somebody_else) == ["logout", "logout_all", None]


def test_ended_sessions_are_counted(api: Api) -> None:
    email = api.new_user()
    here, _ = api.log_in(email), api.log_in(email)
    before = [api.metric("app_sessions_ended_total", reason=name) for name in ("logout", "logout_all")]

    api.log_out(here["access_token"])

    after = [api.metric("app_sessions_ended_total", reason=name) for name in ("logout", "logout_all")]
    assert after == [count + 1 for count in before]


def test_a_logout_beats_a_refresh_that_runs_beside_it(api: Api) -> None:
    for _ in range(10):
        pair = api.log_in()

        responses = at_once(
            2,
            lambda n, pair=pair: (
                api.log_out(pair["access_token"]) if n else api.refresh(pair["refresh_token"])
            ),
        )

        assert responses[1].status_code == 204
        latest = responses[0].json().get("refresh_token", pair["refresh_token"])
        assert error_of(api.refresh(latest)) == (401, "refresh_token_reused")


def test_a_logout_without_a_token_still_clears_the_cookies(api: Api) -> None:
    response = api.http.post("/api/v1/logout")

    assert error_of(response) == (401, "not_authenticated")
    assert clears_cookies(response)


@pytest.mark.parametrize(
    ("request_options", "expected"),
    [
        ({"headers": bearer("nonsense")}, (401, "invalid_token")),
        ({"json": {"refresh_token": "nonsense"}}, (401, "invalid_refresh_token")),
        ({"content": "{", "headers": {"Content-Type": "application/json"}}, (400, "validation_error")),
        ({"json": {"refresh_token": 7}}, (400, "validation_error")),
        (
            {"content": b"x" * 70_000, "headers": {"Content-Type": "application/json"}},
            (413, "payload_too_large"),
        ),
    ],
)
def test_a_refused_logout_still_clears_the_cookies(
    api: Api, request_options: dict[str, Any], expected: tuple[int, str]
) -> None:
    response = api.http.post("/api/v1/logout", **request_options)

    assert error_of(response) == expected
    assert clears_cookies(response)


def test_a_logout_clears_the_cookies_while_the_database_is_away(start_service: MakeService, api: Api) -> None:
    away = start_service(database_url=NOWHERE)

    response = away.log_out(api.log_in()["access_token"])

    assert error_of(response) == (503, "unavailable")
    assert clears_cookies(response)


def test_a_refresh_token_logs_out_when_the_access_token_has_run_out(start_service: MakeService) -> None:
    clock = MovableClock()
    api = start_service(clock=clock)
    pair = api.log_in()
    clock.move(minutes=16)
    assert error_of(api.log_out(pair["access_token"])) == (401, "token_expired")

    response = api.http.post(
        "/api/v1/logout",
        headers=bearer(pair["access_token"]),
        json={"refresh_token": pair["refresh_token"]},
    )

    assert response.status_code == 204
    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")


def test_a_refresh_token_alone_logs_out(api: Api, engine: Engine) -> None:
    email = api.new_user()
    here, there = api.log_in(email), api.log_in(email)

    response = api.http.post("/api/v1/logout", json={"refresh_token": here["refresh_token"]})

    assert response.status_code == 204
    assert end_reasons(engine, here, there) == ["logout", "logout_all"]


def test_the_refresh_cookie_alone_logs_out(api: Api, engine: Engine) -> None:
    email = api.new_user()
    with browser(api.base_url) as tab:
        pair = tab.post("/api/v1/token", data={"username": email, "password": PASSWORD}).json()
        tab.cookies.delete("access_token")

        assert tab.post("/api/v1/logout").status_code == 204

        assert dict(tab.cookies) == {}
    assert end_reasons(engine, pair) == ["logout"]


def test_a_bad_access_token_is_not_made_good_by_a_refresh_token(api: Api, engine: Engine) -> None:
    pair = api.log_in()

    response = api.http.post(
        "/api/v1/logout", headers=bearer("nonsense"), json={"refresh_token": pair["refresh_token"]}
    )

    assert error_of(response) == (401, "invalid_token")
    assert end_reasons(engine, pair) == [None]


def test_a_tab_with_the_token_before_the_last_may_log_out(api: Api) -> None:
    first = api.log_in()
    second = api.refresh(first["refresh_token"]).json()

    response = api.http.post("/api/v1/logout", json={"refresh_token": first["refresh_token"]})

    assert response.status_code == 204
    assert error_of(api.refresh(second["refresh_token"])) == (401, "refresh_token_reused")


def test_a_long_used_refresh_token_at_logout_is_a_theft(start_service: MakeService, engine: Engine) -> None:
    clock = MovableClock()
    api = start_service(clock=clock)
    email = api.new_user()
    stolen, other = api.log_in(email), api.log_in(email)
    api.refresh(stolen["refresh_token"])
    clock.move(hours=1)

    response = api.http.post("/api/v1/logout", json={"refresh_token": stolen["refresh_token"]})

    assert error_of(response) == (401, "refresh_token_reused")
    assert end_reasons(engine, stolen, other) == ["reuse_detected", None]


def test_the_second_logout_with_an_access_token_hears_that_the_session_has_ended(api: Api) -> None:
    pair = api.log_in()

    assert api.log_out(pair["access_token"]).status_code == 204
    assert error_of(api.log_out(pair["access_token"])) == (401, "token_revoked")
