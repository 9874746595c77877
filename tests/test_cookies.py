from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine

from tests.support import PASSWORD, Api, MakeService, bearer, browser, error_of
from tests.support.accounts import end_reasons

FOREIGN = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


@pytest.fixture
def tab(api: Api) -> Iterator[httpx.Client]:
    """A browser that is signed in."""
    with browser(api.base_url) as client:
        log_in(client, api.new_user())
        yield client


def log_in(client: httpx.Client, email: str) -> httpx.Response:
    return client.post("/api/v1/token", data={"username": email, "password": PASSWORD})


def test_a_login_sets_two_cookies_that_no_script_reads(api: Api) -> None:
    response = api.token(api.new_user())

    access, refresh = response.headers.get_list("set-cookie")
    pair = response.json()
    assert access == f"access_token={pair['access_token']}; HttpOnly; Max-Age=900; Path=/; SameSite=lax"
    assert refresh == (
        f"refresh_token={pair['refresh_token']}; HttpOnly; Max-Age=604800; Path=/api/v1; SameSite=lax"
    )


def test_outside_development_cookies_are_secure(start_service: MakeService) -> None:
    api = start_service(environment="production")

    response = api.token(api.new_user())

    assert all("; Secure" in header for header in response.headers.get_list("set-cookie"))


def test_cookies_sign_in_refresh_and_sign_out(tab: httpx.Client) -> None:
    before = dict(tab.cookies)

    assert tab.get("/api/v1/me").status_code == 200
    assert tab.post("/api/v1/refresh").status_code == 200
    assert dict(tab.cookies) != before
    assert tab.get("/api/v1/me").status_code == 200
    assert tab.post("/api/v1/logout").status_code == 204
    assert dict(tab.cookies) == {}
    assert error_of(tab.get("/api/v1/me")) == (401, "not_authenticated")


def test_a_lost_race_of_two_tabs_takes_no_cookies_away(tab: httpx.Client) -> None:
    old = tab.cookies["refresh_token"]
    tab.post("/api/v1/refresh")

    response = tab.post("/api/v1/refresh", json={"refresh_token": old})

    assert error_of(response) == (401, "refresh_token_reused")
    assert "set-cookie" not in response.headers
    assert tab.post("/api/v1/refresh").status_code == 200


def test_a_bearer_header_wins_over_a_cookie(api: Api, tab: httpx.Client) -> None:
    other = api.log_in()

    mine = tab.get("/api/v1/me").json()["id"]

    assert tab.get("/api/v1/me", headers=bearer(other["access_token"])).json()["id"] != mine
    assert error_of(tab.get("/api/v1/me", headers=bearer("nonsense"))) == (401, "invalid_token")


def test_a_refresh_token_in_the_body_wins_over_the_cookie(tab: httpx.Client) -> None:
    response = tab.post("/api/v1/refresh", json={"refresh_token": "nonsense"})

    assert error_of(response) == (401, "invalid_refresh_token")


@pytest.mark.parametrize("path", ["/api/v1/refresh", "/api/v1/logout"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "something-new"},
    ],
)
def test_cookies_alone_change_nothing_for_another_site(
    tab: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    response = tab.post(path, headers=headers)

    assert error_of(response) == (403, "cross_site_request")
    assert "set-cookie" not in response.headers  # or any site could sign people out
    assert tab.get("/api/v1/me").status_code == 200
    assert tab.post("/api/v1/refresh").status_code == 200


def test_another_site_cannot_end_sessions_with_the_refresh_cookie(
    tab: httpx.Client,
) -> None:
    tab.cookies.delete("access_token")

    assert error_of(tab.post("/api/v1/logout", headers=FOREIGN)) == (403, "cross_site_request")

    assert tab.post("/api/v1/refresh").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
        {"Origin": "OWN"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://board.example.com"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://board.example.com"},
        {"Origin": "https://board.example.com"},
    ],
)
def test_our_own_pages_may_use_cookies(start_service: MakeService, headers: dict[str, str]) -> None:
    api = start_service(cors_origins="https://board.example.com, http://localhost:5173")
    headers = {name: api.base_url if value == "OWN" else value for name, value in headers.items()}
    with browser(api.base_url, headers=headers) as client:
        log_in(client, api.new_user())

        assert client.post("/api/v1/refresh").status_code == 200
        assert client.post("/api/v1/logout").status_code == 204


def test_a_bearer_token_is_good_from_any_site(api: Api) -> None:
    pair = api.log_in()

    assert api.http.post("/api/v1/logout", headers=bearer(pair["access_token"]) | FOREIGN).status_code == 204


def test_a_refresh_token_in_the_body_is_good_from_any_site(api: Api) -> None:
    body = {"refresh_token": api.log_in()["refresh_token"]}

    assert api.http.post("/api/v1/refresh", json=body, headers=FOREIGN).status_code == 200


def test_cookies_may_read_from_any_site(tab: httpx.Client) -> None:
    assert tab.get("/api/v1/me", headers=FOREIGN).status_code == 200


def test_cookies_can_be_turned_off(start_service: MakeService, engine: Engine) -> None:
    api = start_service(auth_cookies=False)
    response = api.token(api.new_user())
    pair = response.json()

    assert "set-cookie" not in response.headers
    with browser(
        api.base_url, cookies={name: pair[name] for name in ("access_token", "refresh_token")}
    ) as client:
        assert error_of(client.get("/api/v1/me")) == (401, "not_authenticated")
        assert error_of(client.post("/api/v1/refresh")) == (401, "not_authenticated")
        logout = client.post("/api/v1/logout")
    assert error_of(logout) == (401, "not_authenticated")
    assert "set-cookie" not in logout.headers
    assert end_reasons(engine, pair) == [None]


def test_cors_lets_the_frontend_in_and_nobody_else(start_service: MakeService) -> None:
    api = start_service(cors_origins=["https://board.example.com"])
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}

    def ask(origin: str) -> httpx.Response:
        return api.http.options("/api/v1/refresh", headers=preflight | {"Origin": origin})

    allowed = ask("https://board.example.com")
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://board.example.com"
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in ask("https://evil.example").headers


def test_errors_have_cors_headers(start_service: MakeService) -> None:
    api = start_service(cors_origins=["https://board.example.com"])

    response = api.http.get("/api/v1/me", headers={"Origin": "https://board.example.com"})

    assert error_of(response) == (401, "not_authenticated")
    assert response.headers["access-control-allow-origin"] == "https://board.example.com"
