"""What people do with their own accounts: password, sessions, farewell."""

from typing import Any

import httpx
import pytest

from app.services.sessions.tokens import TokenService
from tests.support import (
    PASSWORD,
    Api,
    MakeService,
    MovableClock,
    at_once,
    bearer,
    browser,
    error_of,
)

NEW = "another horse staple"
SESSIONS = "/api/v1/me/sessions"


def change(api: Api, token: str, current: str = PASSWORD, new: str = NEW) -> httpx.Response:
    body = {"current_password": current, "new_password": new}
    return api.http.put("/api/v1/me/password", json=body, headers=bearer(token))


def sessions(api: Api, token: str) -> list[dict[str, Any]]:
    response = api.http.get(SESSIONS, headers=bearer(token))
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()
    return found


def reasons(api: Api, token: str) -> list[str]:
    response = api.http.get(f"{SESSIONS}/ended", headers=bearer(token))
    assert response.status_code == 200, response.text
    return [session["reason"] for session in response.json()]


def test_a_new_password_ends_all_sessions_and_opens_a_new_one(api: Api) -> None:
    email = api.new_user()
    this, other = api.log_in(email), api.log_in(email)

    changed = change(api, this["access_token"])

    assert changed.status_code == 200
    assert error_of(api.refresh(other["refresh_token"])) == (401, "refresh_token_reused")
    assert api.refresh(changed.json()["refresh_token"]).status_code == 200
    assert error_of(api.token(email)) == (401, "invalid_credentials")
    assert api.token(email, NEW).status_code == 200
    new = changed.json()["access_token"]
    assert reasons(api, new) == ["password_change"] * 2
    assert [session["current"] for session in sessions(api, new)] == [False, True]


def test_a_copied_access_token_is_worth_nothing_after_a_password_change(api: Api) -> None:
    """The one of the very session that changed the password, too."""
    copied = api.log_in()["access_token"]
    changed = change(api, copied).json()

    assert error_of(api.me(copied)) == (401, "token_revoked")
    assert error_of(api.log_out(copied)) == (401, "token_revoked")
    assert api.me(changed["access_token"]).status_code == 200


def test_a_session_begins_anew_with_a_new_password(start_service: MakeService) -> None:
    clock = MovableClock()
    api = start_service(clock=clock, session_max_days=30, refresh_token_expire_days=30)
    pair = api.log_in()
    clock.move(days=29)
    pair = api.refresh(pair["refresh_token"]).json()

    changed = change(api, pair["access_token"]).json()

    clock.move(days=29)
    assert api.refresh(changed["refresh_token"]).status_code == 200


def test_a_password_stays_as_it_is_if_no_token_can_be_signed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = api.new_user()
    pair = api.log_in(email)
    with monkeypatch.context() as broken:
        broken.setattr(TokenService, "issue", lambda *_: 1 / 0)
        assert error_of(change(api, pair["access_token"])) == (500, "internal_error")

    assert api.me(pair["access_token"]).status_code == 200
    assert api.token(email).status_code == 200
    assert api.token(email, NEW).status_code == 401


def test_a_password_change_answers_with_a_new_pair_and_the_old_refresh_token_is_worth_nothing(
    api: Api,
) -> None:
    email = api.new_user()
    pair = api.log_in(email)

    changed = change(api, pair["access_token"])

    assert changed.status_code == 200
    assert changed.headers["cache-control"] == "no-store"
    assert set(changed.json()) == set(pair)
    stolen_copy = api.refresh(pair["refresh_token"])
    assert error_of(stolen_copy) == (401, "refresh_token_reused")
    assert api.refresh(changed.json()["refresh_token"]).status_code == 200


def test_a_password_change_gives_a_browser_new_cookies(api: Api) -> None:
    email = api.new_user()
    with browser(api.base_url) as tab:
        tab.post("/api/v1/token", data={"username": email, "password": PASSWORD})
        before = dict(tab.cookies)
        body = {"current_password": PASSWORD, "new_password": NEW}
        response = tab.put("/api/v1/me/password", json=body)
        after = dict(tab.cookies)

        assert response.status_code == 200
        assert set(before) == set(after) == {"access_token", "refresh_token", "device"}
        assert {name for name in before if before[name] != after[name]} == {"access_token", "refresh_token"}
        assert after["refresh_token"] == response.json()["refresh_token"]
        assert tab.post("/api/v1/refresh").status_code == 200
    raced = api.refresh(before["refresh_token"])
    assert error_of(raced) == (401, "refresh_token_reused")


@pytest.mark.parametrize("current", ["wrong", "", PASSWORD + " "])
def test_a_wrong_current_password_is_counted_like_a_failed_login(
    start_service: MakeService, current: str
) -> None:
    api = start_service()
    email = api.new_user()
    pair = api.log_in(email)

    response = change(api, pair["access_token"], current=current)

    assert error_of(response) == (401, "invalid_credentials")
    assert response.json()["detail"] == "Incorrect email or password"
    assert api.metric("app_login_failures_total", reason="wrong_password") == 1
    assert api.token(email).status_code == 200


@pytest.mark.parametrize("new", ["tiny", "x" * 1025])
def test_a_new_password_has_to_fit(api: Api, new: str) -> None:
    response = change(api, api.log_in()["access_token"], new=new)

    assert error_of(response) == (400, "validation_error")
    assert response.json()["detail"][0]["loc"] == ["body", "new_password"]
    assert new not in response.text


def test_of_two_password_changes_at_once_one_is_made(api: Api) -> None:
    email = api.new_user()
    tokens = [api.log_in(email)["access_token"] for _ in range(2)]

    answers = at_once(2, lambda index: change(api, tokens[index], new=f"{NEW} {index}").status_code)

    assert sorted(answers) == [200, 401]
    assert api.token(email, f"{NEW} {answers.index(200)}").status_code == 200


def test_a_login_beside_a_password_change_does_not_outlive_it(api: Api) -> None:
    email = api.new_user()
    token = api.log_in(email)["access_token"]

    def act(index: int) -> httpx.Response:
        return change(api, token) if index == 0 else api.token(email)

    _, *logins = at_once(6, act)

    for login in logins:
        if login.status_code == 200:
            assert api.refresh(login.json()["refresh_token"]).status_code == 401


def test_sessions_are_listed_with_their_places(api: Api) -> None:
    email = api.new_user()
    first = api.log_in(email)
    with browser(api.base_url, headers={"User-Agent": "Tab/1"}) as tab:
        tab.post("/api/v1/token", data={"username": email, "password": PASSWORD})
        found = tab.get(SESSIONS).json()
    api.refresh(first["refresh_token"])

    assert [session["current"] for session in found] == [True, False]
    assert set(found[0]) == {
        "id", "created_at", "last_used_at", "expires_at", "user_agent", "ip_address", "current",
    }  # fmt: skip
    assert (found[0]["user_agent"], found[0]["ip_address"]) == ("Tab/1", "127.0.0.1")
    again = sessions(api, first["access_token"])
    assert [session["current"] for session in again] == [True, False]  # the last used first
    assert again[0]["last_used_at"] > again[0]["created_at"]


def test_one_session_of_a_user_can_be_ended(api: Api) -> None:
    email = api.new_user()
    this, other = api.log_in(email), api.log_in(email)
    token = this["access_token"]
    (other_id,) = [each["id"] for each in sessions(api, token) if not each["current"]]

    first = api.http.delete(f"{SESSIONS}/{other_id}", headers=bearer(token))
    second = api.http.delete(f"{SESSIONS}/{other_id}", headers=bearer(token))

    assert first.status_code == 204
    assert error_of(second) == (404, "not_found")
    assert error_of(api.refresh(other["refresh_token"])) == (401, "refresh_token_reused")
    assert api.refresh(this["refresh_token"]).status_code == 200
    assert reasons(api, token) == ["logout"]


def test_nobody_ends_the_session_of_another(api: Api) -> None:
    mine, theirs = api.log_in(), api.log_in()
    (their_id,) = [each["id"] for each in sessions(api, theirs["access_token"])]

    response = api.http.delete(f"{SESSIONS}/{their_id}", headers=bearer(mine["access_token"]))

    assert error_of(response) == (404, "not_found")
    assert api.refresh(theirs["refresh_token"]).status_code == 200
    strange = api.http.delete(f"{SESSIONS}/7", headers=bearer(mine["access_token"]))
    assert error_of(strange) == (400, "validation_error")


def test_a_browser_that_ends_its_own_session_loses_its_cookies(api: Api) -> None:
    email = api.new_user()
    with browser(api.base_url) as tab:
        tab.post("/api/v1/token", data={"username": email, "password": PASSWORD})
        (this,) = tab.get(SESSIONS).json()
        tab.delete(f"{SESSIONS}/{this['id']}")
        assert set(tab.cookies) == {"device"}


def test_all_other_sessions_of_a_user_can_be_ended(api: Api) -> None:
    email = api.new_user()
    others = [api.log_in(email) for _ in range(3)]
    this = api.log_in(email)

    assert api.http.delete(SESSIONS, headers=bearer(this["access_token"])).status_code == 204

    assert [session["current"] for session in sessions(api, this["access_token"])] == [True]
    assert {api.refresh(other["refresh_token"]).status_code for other in others} == {401}
    assert reasons(api, this["access_token"]) == ["logout_all"] * 3


def test_only_the_last_twenty_ended_sessions_are_shown(api: Api) -> None:
    email = api.new_user()
    for _ in range(21):
        api.log_in(email)
    this = api.log_in(email)["access_token"]
    api.http.delete(SESSIONS, headers=bearer(this))

    response = api.http.get(f"{SESSIONS}/ended", headers=bearer(this)).json()

    assert len(response) == 20
    assert set(response[0]) == {"id", "created_at", "ended_at", "reason", "user_agent", "ip_address"}


def test_the_victim_of_a_theft_sees_it_among_the_ended_sessions(api: Api) -> None:
    email = api.new_user()
    pair = api.log_in(email)
    newer = api.refresh(pair["refresh_token"]).json()
    api.refresh(newer["refresh_token"])
    api.refresh(pair["refresh_token"])

    assert reasons(api, api.log_in(email)["access_token"]) == ["reuse_detected"]


def test_a_logout_of_this_session_leaves_the_others(api: Api) -> None:
    email = api.new_user()
    this, other = api.log_in(email), api.log_in(email)

    response = api.http.post("/api/v1/logout?scope=session", headers=bearer(this["access_token"]))

    assert response.status_code == 204
    assert error_of(api.refresh(this["refresh_token"])) == (401, "refresh_token_reused")
    assert api.refresh(other["refresh_token"]).status_code == 200


def test_a_logout_of_this_session_by_its_refresh_token_leaves_the_others(api: Api) -> None:
    email = api.new_user()
    this, other = api.log_in(email), api.log_in(email)

    body = {"refresh_token": this["refresh_token"]}
    assert api.http.post("/api/v1/logout?scope=session", json=body).status_code == 204

    assert api.refresh(this["refresh_token"]).status_code == 401
    assert api.refresh(other["refresh_token"]).status_code == 200


@pytest.mark.parametrize("scope", ["", "?scope=all"])
def test_a_logout_without_a_scope_is_of_all_sessions(api: Api, scope: str) -> None:
    email = api.new_user()
    this, other = api.log_in(email), api.log_in(email)

    api.http.post(f"/api/v1/logout{scope}", headers=bearer(this["access_token"]))

    assert {api.refresh(each["refresh_token"]).status_code for each in (this, other)} == {401}


def test_a_logout_of_a_scope_that_does_not_exist_ends_nothing(api: Api) -> None:
    this = api.log_in()

    response = api.http.post("/api/v1/logout?scope=some", headers=bearer(this["access_token"]))

    assert error_of(response) == (400, "validation_error")
    assert api.refresh(this["refresh_token"]).status_code == 200


def test_a_deleted_account_is_gone_and_its_email_free(api: Api) -> None:
    email = api.new_user()
    with browser(api.base_url) as tab:
        tab.post("/api/v1/token", data={"username": email, "password": PASSWORD})
        pair = dict(tab.cookies)
        wrong = tab.post("/api/v1/me/delete", json={"password": "wrong"})
        assert error_of(wrong) == (401, "invalid_credentials")
        assert dict(tab.cookies) == pair

        assert tab.post("/api/v1/me/delete", json={"password": PASSWORD}).status_code == 204
        assert dict(tab.cookies) == {}

    assert error_of(api.me(pair["access_token"])) == (401, "invalid_token")
    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert error_of(api.token(email)) == (401, "invalid_credentials")
    assert api.register(email).status_code == 201


def test_another_site_changes_nothing_of_an_account(api: Api) -> None:
    email = api.new_user()
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    with browser(api.base_url) as tab:
        tab.post("/api/v1/token", data={"username": email, "password": PASSWORD})
        (this,) = tab.get(SESSIONS).json()
        passwords = {"current_password": PASSWORD, "new_password": NEW}
        calls = [
            tab.put("/api/v1/me/password", json=passwords, headers=foreign),
            tab.post("/api/v1/me/delete", json={"password": PASSWORD}, headers=foreign),
            tab.delete(SESSIONS, headers=foreign),
            tab.delete(f"{SESSIONS}/{this['id']}", headers=foreign),
        ]
        assert {error_of(call) for call in calls} == {(403, "cross_site_request")}
        assert tab.post("/api/v1/refresh").status_code == 200
