"""Libraries of OAuth 2.0 (RFC 6749) log in and stay signed in, though they were not written for us."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient
from requests_oauthlib import OAuth2Session

from tests.support import PASSWORD, Api, MakeService, MovableClock, browser, error_of

EXPIRED_SECONDS = 1000
TOKEN, REFRESH = "/api/v1/token", "/api/v1/refresh"


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def moved(start_service: MakeService, clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The libraries demand https, which they believe their setting to be the end of."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    return start_service(clock=clock)


@pytest.mark.parametrize("path", [TOKEN, REFRESH])
def test_requests_oauthlib_logs_in_and_refreshes_by_itself(
    moved: Api, clock: MovableClock, path: str
) -> None:
    kept: list[dict[str, Any]] = []
    session = OAuth2Session(
        client=LegacyApplicationClient(client_id="board"),
        auto_refresh_url=moved.base_url + path,
        token_updater=kept.append,
    )
    email = moved.new_user()
    first = session.fetch_token(moved.base_url + TOKEN, username=email, password=PASSWORD)
    assert session.get(moved.base_url + "/api/v1/me").json()["email"] == email

    for _ in range(2):
        clock.move(seconds=EXPIRED_SECONDS)
        session.token = {**session.token, "expires_at": 1, "expires_in": -1}
        assert session.get(moved.base_url + "/api/v1/me").json()["email"] == email

    assert len({first["refresh_token"], *(token["refresh_token"] for token in kept)}) == 3


def test_requests_oauthlib_hears_what_is_wrong(moved: Api) -> None:
    session = OAuth2Session(client=LegacyApplicationClient(client_id="board"))

    with pytest.raises(InvalidGrantError, match="Incorrect email or password"):
        session.fetch_token(moved.base_url + TOKEN, username="nobody@example.com", password=PASSWORD)
    with pytest.raises(InvalidGrantError, match="Invalid refresh token"):
        session.refresh_token(moved.base_url + REFRESH, refresh_token="nonsense")


@pytest.mark.parametrize("path", [TOKEN, REFRESH])
def test_authlib_logs_in_and_refreshes_by_itself(moved: Api, clock: MovableClock, path: str) -> None:
    kept: list[dict[str, Any]] = []
    email = moved.new_user()
    with AuthlibSession(
        "board",
        token_endpoint=moved.base_url + path,
        token_endpoint_auth_method="none",
        update_token=lambda token, **_: kept.append(token),
    ) as session:
        first = session.fetch_token(moved.base_url + TOKEN, username=email, password=PASSWORD)
        assert session.get(moved.base_url + "/api/v1/me").json()["email"] == email

        clock.move(seconds=EXPIRED_SECONDS)
        session.token = {**session.token, "expires_at": 1}
        assert session.get(moved.base_url + "/api/v1/me").json()["email"] == email

    assert [token["refresh_token"] != first["refresh_token"] for token in kept] == [True]


def test_authlib_hears_what_is_wrong(moved: Api) -> None:
    with AuthlibSession("board", token_endpoint_auth_method="none") as session:
        with pytest.raises(OAuthError, match="invalid_grant"):
            session.fetch_token(moved.base_url + TOKEN, username="nobody@example.com", password=PASSWORD)
        with pytest.raises(OAuthError, match="invalid_grant"):
            session.refresh_token(moved.base_url + TOKEN, refresh_token="nonsense")


def refresh(api: Api, path: str, **form: str) -> httpx.Response:
    return api.http.post(path, data=form)


@pytest.mark.parametrize("path", [TOKEN, REFRESH])
def test_a_form_refreshes_at_either_path(api: Api, path: str) -> None:
    pair = api.log_in()

    answer = refresh(api, path, grant_type="refresh_token", refresh_token=pair["refresh_token"])

    assert answer.status_code == 200
    assert answer.json().keys() == pair.keys()
    assert len(answer.headers.get_list("set-cookie")) == 2
    again = refresh(api, path, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert error_of(again) == (401, "refresh_token_reused")


@pytest.mark.parametrize("path", [TOKEN, REFRESH])
def test_a_lost_answer_to_a_form_is_given_again(api: Api, path: str) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": api.log_in()["refresh_token"]}
    key = {"Idempotency-Key": "one"}

    first, again = (api.http.post(path, data=form, headers=key) for _ in range(2))

    assert first.json()["refresh_token"] == again.json()["refresh_token"]


@pytest.fixture
def tab(api: Api) -> Iterator[httpx.Client]:
    with browser(api.base_url) as client:
        client.post(TOKEN, data={"username": api.new_user(), "password": PASSWORD})
        yield client


def test_without_a_token_in_the_body_the_cookie_is_taken(tab: httpx.Client) -> None:
    assert tab.post(REFRESH, json={}).status_code == 200
    assert tab.post(REFRESH, json={"refresh_token": ""}).status_code == 200
    assert tab.post(REFRESH, data={"grant_type": "refresh_token"}).status_code == 200
    assert tab.post(REFRESH).status_code == 200


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WRONG: list[tuple[str, dict[str, Any], tuple[int, str], str]] = [
    (TOKEN, {}, (400, "validation_error"), "invalid_request"),
    (TOKEN, {"data": {"grant_type": "refresh_token"}}, (400, "validation_error"), "invalid_request"),
    (TOKEN, {"data": {"grant_type": "magic"}}, (400, "validation_error"), "unsupported_grant_type"),
    (TOKEN, {"data": {"username": "a", "password": "x"}}, (401, "invalid_credentials"), "invalid_grant"),
    (TOKEN, {"data": {"username": 'a"\\é'}}, (400, "validation_error"), "invalid_request"),
    (TOKEN, {"json": {"username": "a", "password": "x"}}, (400, "validation_error"), "invalid_request"),
    (TOKEN, {"content": b"x" * 70_000}, (413, "payload_too_large"), "invalid_request"),
    (REFRESH, {}, (401, "not_authenticated"), "invalid_request"),
    (REFRESH, {"json": {}}, (400, "validation_error"), "invalid_request"),
    (REFRESH, {"json": {"refresh_token": None}}, (400, "validation_error"), "invalid_request"),
    (REFRESH, {"json": {"refresh_token": ""}}, (400, "validation_error"), "invalid_request"),
    (REFRESH, {"json": {"refresh_token": 5}}, (400, "validation_error"), "invalid_request"),
    (REFRESH, {"json": {"refresh_token": "x"}}, (401, "invalid_refresh_token"), "invalid_grant"),
    (REFRESH, {"data": {"grant_type": "refresh_token"}}, (400, "validation_error"), "invalid_request"),
    (REFRESH, {"data": {"refresh_token": "x"}}, (401, "invalid_refresh_token"), "invalid_grant"),
    (
        REFRESH,
        {"data": {"grant_type": "password", "refresh_token": "x"}},
        (400, "validation_error"),
        "unsupported_grant_type",
    ),
    *(
        (path, {"content": content, "headers": FORM}, (400, "validation_error"), "invalid_request")
        for path, content in (
            (TOKEN, "username=a&username=b&password=x"),
            (TOKEN, "username=a&password=x&password=x"),
            (TOKEN, "grant_type=password&grant_type=password&username=a&password=x"),
            (TOKEN, "grant_type=refresh_token&refresh_token=x&refresh_token=y"),
            (REFRESH, "refresh_token=x&refresh_token=y"),
        )
    ),
    (
        TOKEN,
        {"content": "username=&username=a&password=x&resource=b&resource=c", "headers": FORM},
        (401, "invalid_credentials"),
        "invalid_grant",
    ),
]


@pytest.mark.parametrize(("path", "content", "known", "error"), WRONG)
def test_a_refusal_has_the_fields_of_rfc_6749_beside_ours(
    api: Api, path: str, content: dict[str, Any], known: tuple[int, str], error: str
) -> None:
    answer = api.http.post(path, **content)

    assert error_of(answer) == known
    assert answer.json()["error"] == error
    assert "strict" not in answer.text  # how a type is made up is no name of a field
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", answer.json()["error_description"])


def test_no_other_endpoint_has_them(api: Api) -> None:
    assert set(api.http.post("/api/v1/logout").json()) == {"detail", "code"}
