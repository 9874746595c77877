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

        assert set(tab.cookies) == {"device"}
    assert end_reasons(engine, pair) == ["logout"]


# An access token and where it is, a refresh token and where it is, and the answer.
MATRIX = """
    good     cookie   good     cookie   204
    good     cookie   garbage  cookie   204
    good     cookie   missing  -        204
    good     bearer   good     cookie   204
    good     bearer   garbage  body     204
    good     bearer   missing  -        204
    missing  -        good     cookie   204
    missing  -        good     body     204
    missing  -        garbage  cookie   401 invalid_refresh_token
    missing  -        garbage  body     401 invalid_refresh_token
    missing  -        missing  -        401 not_authenticated
    expired  cookie   good     cookie   204
    expired  cookie   good     body     204
    expired  cookie   garbage  cookie   401 invalid_refresh_token
    expired  cookie   missing  -        401 token_expired
    expired  bearer   good     cookie   204
    expired  bearer   good     body     204
    expired  bearer   garbage  cookie   401 invalid_refresh_token
    expired  bearer   missing  -        401 token_expired
    garbage  cookie   good     cookie   204
    garbage  cookie   good     body     204
    garbage  cookie   garbage  cookie   401 invalid_refresh_token
    garbage  cookie   missing  -        401 invalid_token
    garbage  bearer   good     cookie   401 invalid_token
    garbage  bearer   good     body     204
    garbage  bearer   garbage  body     401 invalid_refresh_token
    garbage  bearer   missing  -        401 invalid_token
    revoked  cookie   good     cookie   204
    revoked  cookie   good     body     204
    revoked  cookie   garbage  cookie   401 invalid_refresh_token
    revoked  cookie   missing  -        401 token_revoked
    revoked  bearer   good     cookie   401 token_revoked
    revoked  bearer   good     body     204
    revoked  bearer   garbage  body     401 invalid_refresh_token
    revoked  bearer   missing  -        401 token_revoked
"""


class Drawer:
    """Tokens of one user, good and bad."""

    def __init__(self, api: Api, clock: MovableClock) -> None:
        self.api, self._email = api, api.new_user()
        expired = api.log_in(self._email)
        clock.move(minutes=16)
        revoked = api.log_in(self._email)
        api.http.post("/api/v1/logout?scope=session", headers=bearer(revoked["access_token"]))
        self.access = {"expired": expired["access_token"], "revoked": revoked["access_token"],
                       "garbage": "nonsense"}  # fmt: skip
        self.refresh = {"garbage": "nonsense"}

    def put_in_good_ones(self) -> None:
        self.pair = self.api.log_in(self._email)
        self.access["good"], self.refresh["good"] = self.pair["access_token"], self.pair["refresh_token"]

    def request(self, access: str, access_place: str, refresh: str, refresh_place: str) -> dict[str, Any]:
        cookies, headers, body = [], {}, {}
        if access_place == "bearer":
            headers = bearer(self.access[access])
        elif access_place == "cookie":
            cookies.append(f"access_token={self.access[access]}")
        if refresh_place == "body":
            body = {"json": {"refresh_token": self.refresh[refresh]}}
        elif refresh_place == "cookie":
            cookies.append(f"refresh_token={self.refresh[refresh]}")
        return {"headers": headers | {"Cookie": "; ".join(cookies)}, **body}


@pytest.fixture(scope="module")
def drawer(start_lasting_service: MakeService) -> Drawer:
    clock = MovableClock()
    return Drawer(start_lasting_service(clock=clock), clock)


@pytest.mark.parametrize("line", [line.strip() for line in MATRIX.strip().splitlines()])
def test_a_logout_takes_the_good_token_among_bad_ones(drawer: Drawer, engine: Engine, line: str) -> None:
    *tokens, status, code = [*line.split(), ""][:6]
    drawer.put_in_good_ones()

    response = drawer.api.http.post("/api/v1/logout", **drawer.request(*tokens))

    assert response.status_code == int(status)
    assert status == "204" or error_of(response) == (401, code)
    assert clears_cookies(response)
    assert end_reasons(engine, drawer.pair) == (["logout"] if status == "204" else [None])


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
