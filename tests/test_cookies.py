import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine

from app.application import create_app
from tests.support import (
    LIVE,
    PASSWORD,
    Api,
    MakeService,
    at_once,
    bearer,
    browser,
    error_of,
    make_settings,
    new_email,
    request,
    serve,
)
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


def test_a_login_sets_cookies_that_no_script_reads(api: Api) -> None:
    response = api.token(api.new_user())

    access, refresh, device = response.headers.get_list("set-cookie")
    pair = response.json()
    assert access == f"access_token={pair['access_token']}; HttpOnly; Max-Age=900; Path=/; SameSite=lax"
    assert refresh == (
        f"refresh_token={pair['refresh_token']}; HttpOnly; Max-Age={pair['refresh_expires_in']}; "
        "Path=/api/v1; SameSite=lax"
    )
    assert device.endswith("; HttpOnly; Max-Age=34560000; Path=/api/v1; SameSite=lax")
    assert re.fullmatch(r"device=[0-9]+\.[\w-]{22}\.[\w-]{43}", device.partition(";")[0], re.ASCII)


@pytest.mark.parametrize("text", ["\\", '";', "; ", "=", "access_token=;"])
@pytest.mark.parametrize(("size", "times"), [(30_000, 32), (64_000, 8)])
def test_no_cookie_header_keeps_the_service_busy(api: Api, text: str, size: int, times: int) -> None:
    """`http.cookies` would take minutes to remove the quotes."""
    attack = {"Cookie": f'a="{text * (size // len(text))}"'}

    answers = at_once(
        times, lambda n: api.http.get("/api/v1/me", headers=attack) if n else api.http.get(LIVE)
    )

    assert answers[0].status_code == 200
    assert {answer.status_code for answer in answers[1:]} <= {401, 431}


def test_a_cookie_is_read_as_it_is_without_unquoting(api: Api) -> None:
    token = api.log_in()["access_token"]

    quoted = api.http.get("/api/v1/me", headers={"Cookie": f'access_token="{token}"'})

    assert error_of(quoted) == (401, "invalid_token")


def test_a_cookie_is_found_among_others_and_in_several_headers(api: Api) -> None:
    token = api.log_in()["access_token"]
    headers = [
        ("Cookie", 'theme="dark; xaccess_token=1;access_token_=2'),
        ("Cookie", f"; = ;flag; access_token={token} ;last=a=b"),
    ]

    assert api.http.get("/api/v1/me", headers=headers).status_code == 200


@pytest.mark.parametrize("planted", ["nonsense", "", "MINE"])
def test_of_two_cookies_with_one_name_none_is_taken(api: Api, planted: str) -> None:
    pair = api.log_in()

    def twice(name: str) -> dict[str, str]:
        return {"Cookie": f"{name}={planted.replace('MINE', pair[name])}; a=b; {name}={pair[name]}"}

    me = api.http.get("/api/v1/me", headers=twice("access_token"))
    refresh = api.http.post("/api/v1/refresh", headers=twice("refresh_token"))

    assert error_of(me) == (401, "not_authenticated")
    assert error_of(refresh) == (401, "not_authenticated")
    assert api.refresh(pair["refresh_token"]).status_code == 200


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
    assert set(tab.cookies) == {"device"}
    assert error_of(tab.get("/api/v1/me")) == (401, "not_authenticated")


PREFIXED = [
    ({"cookie_prefix": "__Host-"}, "__Host-", "/"),
    ({"cookie_prefix": "__Host-", "cookie_path_prefix": "/auth"}, "__Host-", "/"),
    ({"cookie_prefix": "__Secure-"}, "__Secure-", "/api/v1"),
    ({"cookie_prefix": "__Secure-", "cookie_path_prefix": "/auth/"}, "__Secure-", "/auth/api/v1"),
]


@pytest.mark.parametrize(("settings", "prefix", "path"), PREFIXED)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_prefixed_cookies_have_what_browsers_demand_of_them(
    start_service: MakeService, settings: dict[str, str], prefix: str, path: str, environment: str
) -> None:
    api = start_service(environment=environment, **settings)
    login = api.token(api.new_user())
    access, refresh, device = login.headers.get_list("set-cookie")
    both = "; ".join(header.split(";")[0] for header in (access, refresh))

    logout = api.http.post("/api/v1/logout", headers={"Cookie": both})

    assert access.startswith(f"{prefix}access_token=ey")
    assert access.endswith("; Path=/; SameSite=lax; Secure")
    assert refresh.startswith(f"{prefix}refresh_token=ey")
    assert refresh.endswith(f"; Path={path}; SameSite=lax; Secure")
    assert device.startswith(f"{prefix}device=")
    assert device.endswith(f"; Path={path}; SameSite=lax; Secure")
    assert logout.status_code == 204
    assert logout.headers.get_list("set-cookie") == [
        f"{prefix}access_token=; HttpOnly; Max-Age=0; Path=/; SameSite=lax; Secure",
        f"{prefix}refresh_token=; HttpOnly; Max-Age=0; Path={path}; SameSite=lax; Secure",
    ]


def test_with_a_prefix_the_plain_names_are_nobodys(start_service: MakeService) -> None:
    api = start_service(cookie_prefix="__Host-")
    plain = {"Cookie": f"access_token={api.log_in()['access_token']}"}

    assert error_of(api.http.get("/api/v1/me", headers=plain)) == (401, "not_authenticated")


def test_the_refresh_cookie_is_for_the_path_that_browsers_see(
    start_service: MakeService, database_url: str
) -> None:
    """A proxy may take a part of it away; then COOKIE_PATH_PREFIX says so, or the server's root path."""

    def paths(login: httpx.Response) -> list[str]:
        return [header.split("; ")[3] for header in login.headers.get_list("set-cookie")]

    api = start_service(cookie_path_prefix="/auth")
    told = paths(api.token(api.new_user()))
    with serve(create_app(make_settings(database_url=database_url)), root_path="/sub") as base_url:
        form = {"username": api.new_user(), "password": PASSWORD}
        rooted = paths(request("POST", f"{base_url}/api/v1/token", data=form))

    assert told == ["Path=/", "Path=/auth/api/v1", "Path=/auth/api/v1"]
    assert rooted == ["Path=/", "Path=/sub/api/v1", "Path=/sub/api/v1"]


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}, FOREIGN])
def test_another_site_signs_nobody_in_to_an_account_of_its_own(
    api: Api, tab: httpx.Client, headers: dict[str, str]
) -> None:
    mine, other = tab.get("/api/v1/me").json()["id"], api.new_user()

    login = tab.post("/api/v1/token", data={"username": other, "password": PASSWORD}, headers=headers)
    registration = tab.post(
        "/api/v1/users/", json={"email": new_email(), "password": PASSWORD}, headers=headers
    )
    refresh = tab.post(
        "/api/v1/refresh", json={"refresh_token": login.json()["refresh_token"]}, headers=headers
    )

    assert [each.status_code for each in (login, registration, refresh)] == [200, 201, 200]
    for response in (login, registration, refresh):
        assert "set-cookie" not in response.headers
    assert tab.get("/api/v1/me").json()["id"] == mine


def test_a_frontend_of_ours_on_another_site_gets_cookies(start_service: MakeService) -> None:
    api = start_service(cors_origins="https://board.example.com")
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://board.example.com"}

    login = api.http.post(
        "/api/v1/token", data={"username": api.new_user(), "password": PASSWORD}, headers=headers
    )

    assert len(login.headers.get_list("set-cookie")) == 3


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
        {"Origin": "https://evil.example", "Host": "auth.example.com"},
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
    assert "www-authenticate" not in response.headers
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
        {"Origin": "https://auth.example.com"},
        {"Origin": "OWN"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://board.example.com"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://board.example.com"},
        {"Origin": "https://board.example.com"},
    ],
)
def test_our_own_pages_may_use_cookies(start_service: MakeService, headers: dict[str, str]) -> None:
    api = start_service(
        cors_origins="https://board.example.com, http://localhost:5173",
        public_url="https://Auth.example.com:443/prefix",
    )
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
