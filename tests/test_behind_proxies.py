"""Which pages are ours, and under which path, where a proxy stands between them and the service."""

import re
import signal
from collections.abc import Iterator

import httpx
import pytest

from app.application import create_app
from app.serve import main
from tests.support import (
    PASSWORD,
    Api,
    Lines,
    MakeService,
    bearer,
    browser,
    error_of,
    make_settings,
    request,
    serve,
)

PAGE = "http://board.example.com:8080"


@pytest.fixture
def tab(api: Api) -> Iterator[httpx.Client]:
    """A browser that is signed in, and says nothing of itself but an Origin."""
    with browser(api.base_url) as client:
        log_in(client, api.new_user())
        yield client


def log_in(client: httpx.Client, email: str) -> httpx.Response:
    return client.post("/api/v1/token", data={"username": email, "password": PASSWORD})


SAID_BY_PROXIES = [
    {"Host": "board.example.com"},
    {"Host": "board.example.com:8080"},
    {"Host": "auth:8000", "X-Forwarded-Host": "board.example.com:8080"},
    {"Host": "auth:8000", "X-Forwarded-Host": "Board.Example.com"},
    {"Host": "auth:8000", "X-Forwarded-Host": "board.example.com:8080, inner"},
    {"Host": "auth:8000", "Forwarded": 'for=192.0.2.1;proto=http;host="board.example.com:8080"'},
    {"Host": "auth:8000", "Forwarded": "for=192.0.2.1, for=10.0.0.1;Host=board.example.com"},
]


@pytest.mark.parametrize("said", SAID_BY_PROXIES)
def test_a_page_of_the_host_that_the_proxy_was_asked_for_is_ours(
    tab: httpx.Client, said: dict[str, str]
) -> None:
    headers = {"Origin": PAGE} | said

    assert tab.post("/api/v1/refresh", headers=headers).status_code == 200
    assert tab.post("/api/v1/logout", headers=headers).status_code == 204


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://board.example.com.evil.example",
        "https://evil-board.example.com",
        "ftp://board.example.com",
        "null",
        "",
    ],
)
def test_what_a_proxy_says_lets_no_other_site_in(tab: httpx.Client, origin: str) -> None:
    headers = {"Origin": origin, "Host": "auth", "X-Forwarded-Host": "board.example.com"}

    for path in ("/api/v1/refresh", "/api/v1/logout"):
        refused = tab.post(path, headers=headers)
        assert error_of(refused) == (403, "cross_site_request")
        assert "set-cookie" not in refused.headers
    assert tab.post("/api/v1/refresh").status_code == 200


def test_the_default_port_may_be_named(tab: httpx.Client) -> None:
    headers = {"Origin": "https://board.example.com", "Host": "board.example.com:443"}

    assert tab.post("/api/v1/refresh", headers=headers).status_code == 200


@pytest.fixture
def distrustful(database_url: str) -> Iterator[str]:
    settings = make_settings(database_url=database_url, environment="production")
    with serve(create_app(settings), forwarded_allow_ips="192.0.2.1") as base_url:
        yield base_url


def test_a_proxy_that_is_not_trusted_names_no_host_and_no_path(api: Api, distrustful: str) -> None:
    form = {"username": api.new_user(), "password": PASSWORD}
    login = request("POST", f"{distrustful}/api/v1/token", data=form, headers={"X-Forwarded-Prefix": "/sub"})
    cookies = {"Cookie": f"refresh_token={login.json()['refresh_token']}"}
    headers = {"Host": "auth", "X-Forwarded-Host": "board.example.com", "Origin": PAGE}

    refused = request("POST", f"{distrustful}/api/v1/refresh", headers=headers | cookies)

    assert "Path=/api/v1;" in login.headers.get_list("set-cookie")[1]
    assert error_of(refused) == (403, "cross_site_request")


NEIGHBOURS = [
    {"Host": "192.168.1.5:8000", "Origin": "http://192.168.1.5:5173"},
    {"Host": "localhost:8000", "Origin": "http://192.168.1.5:5173"},
    {"Host": "auth", "Origin": "http://[fd00::1]:8080"},
    {"Host": "auth", "Origin": "http://nas.local"},
    {"Host": "auth", "Origin": PAGE, "X-Forwarded-Host": "board.example.com:9999"},
    {"Host": "board.example.com:9999", "Origin": PAGE},
    {"Host": "auth:8000", "Origin": PAGE},
    {"Host": "127.0.0.1:8000", "Origin": "https://board.example.com"},
    {"Host": "auth.internal", "Origin": PAGE, "X-Forwarded-Host": "proxy"},
    {"Host": "auth.example.com", "Origin": PAGE},
]


@pytest.mark.parametrize("headers", NEIGHBOURS)
def test_a_logout_from_a_page_that_could_be_ours_leaves_nobody_signed_in(
    start_service: MakeService, headers: dict[str, str]
) -> None:
    """In production, and by http, so that the browser has no Sec-Fetch-Site to send."""
    api = start_service(environment="production")
    pair = api.log_in()
    cookies = {"Cookie": f"access_token={pair['access_token']}; refresh_token={pair['refresh_token']}"}

    logout = api.http.post("/api/v1/logout", headers=headers | cookies)

    assert logout.status_code == 204
    assert len(logout.headers.get_list("set-cookie")) == 2
    assert error_of(api.http.get("/api/v1/me", headers=cookies)) == (401, "token_revoked")


@pytest.mark.parametrize(
    ("public_url", "headers", "status"),
    [
        ("https://board.example.com/api/auth", {"Host": "auth:8000", "Origin": PAGE}, 204),
        ("https://board.example.com:8443", {"Host": "auth:8000", "Origin": PAGE}, 204),
        ("https://board.example.com", {"Host": "auth:8000", "Origin": "https://evil.example"}, 403),
        (None, {"Host": "auth.example.com", "Origin": "https://evil.example"}, 403),
        (None, {"Host": "auth:8000", "Origin": "null"}, 403),
        (None, {"Host": "auth:8000", "Origin": "file://"}, 403),
    ],
)
def test_a_logout_is_another_sites_where_we_know_our_own(
    start_service: MakeService, public_url: str | None, headers: dict[str, str], status: int
) -> None:
    api = start_service(environment="production", public_url=public_url)
    cookies = {"Cookie": f"refresh_token={api.log_in()['refresh_token']}"}

    logout = api.http.post("/api/v1/logout", headers=headers | cookies)

    assert logout.status_code == status
    assert len(logout.headers.get_list("set-cookie")) == (2 if status == 204 else 0)


def test_a_page_whose_browser_sends_no_cookie_clears_none(api: Api) -> None:
    """As SameSite keeps them from a form of another site, whose answer could clear them."""
    headers = {"Host": "auth:8000", "Origin": "https://evil.example"}

    refused = api.http.post("/api/v1/logout", headers=headers | {"Cookie": "other=1"})

    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("headers", NEIGHBOURS)
def test_a_browser_that_calls_it_another_site_is_believed(tab: httpx.Client, headers: dict[str, str]) -> None:
    headers = headers | {"Sec-Fetch-Site": "same-site"}

    for path in ("/api/v1/refresh", "/api/v1/logout"):
        assert error_of(tab.post(path, headers=headers)) == (403, "cross_site_request")


def test_a_refusal_says_what_would_mend_it_to_the_page_and_to_the_operator(
    start_service: MakeService, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", lines)  # pytest has put its own back since the fixture did
    api = start_service(log_level="WARNING", log_format="json", environment="production")
    pair = api.log_in()
    headers = {"Cookie": f"refresh_token={pair['refresh_token']}", "Host": "auth:8000"}
    own = headers | {"Origin": "https://board.example.com"}

    first = api.http.post("/api/v1/refresh", headers=own)
    second = api.http.post("/api/v1/refresh", headers=own | {"Sec-Fetch-Site": "same-site"})
    hidden = api.http.post("/api/v1/refresh", headers=headers | {"Origin": "null"})
    form = {"username": api.new_user(), "password": PASSWORD}
    login = api.http.post("/api/v1/token", data=form, headers={"Host": "auth:8000", "Origin": "x" * 5000})

    for refused, setting in ((first, "PUBLIC_URL"), (second, "CORS_ORIGINS")):
        assert error_of(refused) == (403, "cross_site_request")
        for word in ("https://board.example.com", "auth:8000", setting):
            assert word in refused.json()["detail"]
    assert [
        (line["level"], line["code"], line["origin"], line["host"], line["setting"])
        for line in lines.events("request.cross_site")
    ] == [
        ("warning", "cross_site_request", "https://board.example.com", "auth:8000", setting)
        for setting in ("PUBLIC_URL", "CORS_ORIGINS")
    ] + [("warning", "cross_site_request", "null", "auth:8000", None)]
    assert "Referrer-Policy" in hidden.json()["detail"]
    assert "PUBLIC_URL" not in hidden.json()["detail"]
    assert "set-cookie" not in login.headers
    (withheld,) = lines.events("cookies.withheld")
    assert (withheld["setting"], len(withheld["origin"])) == ("PUBLIC_URL", 100)


def test_public_url_lets_our_own_pages_in_whatever_the_proxy_makes_of_host(
    start_service: MakeService,
) -> None:
    api = start_service(environment="production", public_url="https://board.example.com/api/auth")
    headers = {"Host": "auth:8000", "Origin": "https://board.example.com"}
    login = api.http.post(
        "/api/v1/token", data={"username": api.new_user(), "password": PASSWORD}, headers=headers
    )
    cookies = {"Cookie": f"refresh_token={login.json()['refresh_token']}"}

    assert len(login.headers.get_list("set-cookie")) == 3
    assert api.http.post("/api/v1/refresh", headers=headers | cookies).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:3000", "http://localhost"])
def test_in_development_a_server_of_this_machine_may_call_us(api: Api, origin: str) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Origin": origin}
    foreign = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}

    allowed = api.http.options("/api/v1/token", headers=preflight)
    login = api.http.post(
        "/api/v1/token", data={"username": api.new_user(), "password": PASSWORD}, headers=foreign
    )

    assert allowed.headers["access-control-allow-origin"] == origin
    assert login.headers["access-control-allow-credentials"] == "true"
    assert len(login.headers.get_list("set-cookie")) == 3


@pytest.mark.parametrize(
    ("settings", "origin"),
    [
        ({}, "http://localhost.evil.example"),
        ({}, "http://localhost:5173.evil.example"),
        ({}, "https://evil.example"),
        ({"cors_origins": "https://board.example.com"}, "http://localhost:5173"),
        ({"environment": "production"}, "http://localhost:5173"),
    ],
)
def test_nobody_else_may(start_service: MakeService, settings: dict[str, str], origin: str) -> None:
    api = start_service(**settings)
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}

    assert "access-control-allow-origin" not in api.http.options("/api/v1/token", headers=headers).headers
    assert "access-control-allow-origin" not in api.http.get("/api/v1/me", headers=headers).headers


PREFIXES = [
    ({"X-Forwarded-Prefix": "/api/auth"}, "/api/auth"),
    ({"X-Forwarded-Prefix": "/api/auth/"}, "/api/auth"),
    ({"X-Forwarded-Prefix": "/outer, /inner"}, "/outer/inner"),
    ({"X-Forwarded-Prefix": "/"}, ""),
    ({"X-Forwarded-Prefix": '/"><script>'}, ""),
    ({"X-Forwarded-Prefix": "//evil.example"}, ""),
    ({"X-Forwarded-Prefix": "auth"}, ""),
    ({"X-Forwarded-Prefix": "/.."}, ""),
    ({"X-Forwarded-Prefix": "/api/./auth"}, ""),
    ({"X-Forwarded-Prefix": "/api, /../admin"}, ""),
    ({"X-Forwarded-Prefix": "/" + "a" * 3000}, ""),
    ({"X-Forwarded-Prefix": "/.well/..api"}, "/.well/..api"),
]


@pytest.mark.parametrize(("said", "path"), PREFIXES)
def test_the_path_that_a_proxy_takes_away_is_in_all_that_browsers_see(
    start_service: MakeService, fresh_database_url: str, said: dict[str, str], path: str
) -> None:
    api = start_service(database_url=fresh_database_url)
    form = {"username": api.new_user(), "password": PASSWORD}
    login = api.http.post("/api/v1/token", data=form, headers=said)
    token = login.json()["access_token"]
    api.token(form["username"])

    page = api.http.get("/docs", headers=said).text
    sessions = api.http.get("/api/v1/me/sessions?limit=1", headers=said | bearer(token))
    assets = re.findall(r'(?:src|href)="([^"]+)"', page + api.http.get("/redoc", headers=said).text)

    paths = [header.split("; ")[3] for header in login.headers.get_list("set-cookie")]
    assert paths == ["Path=/", f"Path={path}/api/v1", f"Path={path}/api/v1"]
    assert f"url: '{path}/openapi.json'" in page
    assert assets
    assert all(asset.startswith(f"{path}/static-offline-docs/") for asset in assets)
    assert sessions.headers["link"].startswith(f"<{path}/api/v1/me/sessions?limit=1&after=")
    document = api.http.get("/openapi.json", headers=said).json()
    assert document["servers"][0]["url"] == (path or "/")
    assert api.http.get("/", headers=said).headers["location"] == "docs"


def test_the_next_request_of_a_connection_has_its_own_path(api: Api) -> None:
    """The document of one proxy's path is nobody else's."""
    for said, path in (PREFIXES[0], ({}, ""), PREFIXES[2], PREFIXES[0]):
        document = api.http.get("/openapi.json", headers=said).json()
        assert document["servers"][0]["url"] == (path or "/")


def test_a_path_in_public_url_is_the_root_path(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setenv("LOG_FORMAT", "text")  # the start sets both, and they are to be as they were
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    monkeypatch.setattr("app.serve.load_settings", lambda: make_settings(
        database_url="postgresql://nowhere/x", run_migrations=False, public_url="https://x.example/api/auth/"
    ))  # fmt: skip
    monkeypatch.setattr("os.execv", lambda _, command: started.append(command))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    main([])
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)  # or no program that a test starts later can end

    assert started[0][started[0].index("--root-path") + 1] == "/api/auth"
