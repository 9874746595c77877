"""The examples of deploy/ that have the service under /api/auth/, in the proxies themselves.

Debian's packages `nginx-light`, `haproxy` and `caddy` have them.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import yaml

from app.devdb import PROJECT
from tests.support import LIVE, PASSWORD, Api, MakeService, browser, request
from tests.support.proxies import board_server, caddy, haproxy, nginx
from tests.support.wire import wire

DEPLOY = PROJECT / "deploy"
PREFIX = "/api/auth"
RunProxy = Callable[[Path, str, Api, int], AbstractContextManager[str]]


def proxy(run: RunProxy, example: str, program: str) -> object:
    is_missing = not shutil.which(program)
    return pytest.param(
        (run, DEPLOY / example),
        id=program,
        marks=[pytest.mark.process, pytest.mark.skipif(is_missing, reason=f"{program} is not installed")],
    )


PROXIES = [
    proxy(nginx, "nginx/prefix.conf", "nginx"),
    proxy(haproxy, "haproxy/haproxy.cfg", "haproxy"),
    proxy(caddy, "caddy/Caddyfile", "caddy"),
]


@pytest.fixture(params=PROXIES)
def url(
    request: pytest.FixtureRequest, start_service: MakeService, fresh_database_url: str, tmp_path: Path
) -> Iterator[str]:
    run, example = request.param
    api = start_service(database_url=fresh_database_url)
    with board_server() as board, run(tmp_path, example.read_text(encoding="utf-8"), api, board) as url:
        yield url


def test_a_browser_lives_under_the_prefix(url: str) -> None:
    """Its page says no more than its Origin, as by http outside of localhost."""
    with browser(f"{url}{PREFIX}", headers={"Origin": url}) as tab:
        tab.post("/api/v1/users/", json={"email": "ada@example.com", "password": PASSWORD})
        for _ in range(2):
            tab.cookies.clear()  # or the second session would replace the first
            login = tab.post("/api/v1/token", data={"username": "ada@example.com", "password": PASSWORD})
        page = tab.get("/api/v1/me/sessions", params={"limit": 1})
        assert {cookie.path for cookie in tab.cookies.jar} == {"/", f"{PREFIX}/api/v1"}
        assert login.status_code == tab.post("/api/v1/refresh").status_code == 200
        assert page.links["next"]["url"].startswith(f"{PREFIX}/api/v1/me/sessions?")
        assert tab.post("/api/v1/logout").status_code == 204
        assert tab.get("/api/v1/me").status_code == 401


def test_the_documentation_works_under_the_prefix(url: str) -> None:
    root = request("GET", f"{url}{PREFIX}/", follow_redirects=True)
    assets = re.findall(r'(?:src|href)="([^"]+)"', root.text)

    assert root.url.path == f"{PREFIX}/docs"
    assert assets
    for path in (*assets, f"{PREFIX}/redoc"):
        assert request("GET", url + path).status_code == 200
    assert request("GET", f"{url}{PREFIX}/openapi.json").json()["servers"][0]["url"] == PREFIX


def test_the_page_of_a_mails_link_works_under_the_prefix(url: str) -> None:
    page = request("GET", f"{url}{PREFIX}/account/verify?token=x")
    (action,) = re.findall(r'action="([^"]+)"', page.text)
    answer = request("POST", urljoin(str(page.url), action), data={"token": "x"}, headers={"Origin": "null"})

    assert page.status_code == 200
    assert (answer.status_code, "This link is not valid" in answer.text) == (400, True)


def test_a_slash_too_many_stays_under_the_prefix(url: str) -> None:
    assert request("GET", f"{url}{PREFIX}/api/v1/health/", follow_redirects=True).status_code == 200


def test_metrics_stay_inside_and_the_rest_is_the_applications(url: str) -> None:
    for path in (
        "/metrics",
        "/metrics%0a",
        "/%6detrics",
        "/metric%73",
        "//metrics",
        "/./metrics",
        "/%2e/metrics",
    ):
        assert request("GET", f"{url}{PREFIX}{path}").status_code == 404
    assert "host" in request("GET", f"{url}/cards").json()


@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["none", "h2c"])
def test_a_request_in_a_body_is_never_answered(url: str, upgrade: bytes) -> None:
    live = f"GET {PREFIX}{LIVE} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n".encode()
    hidden = b"\r\n" * 4000 + b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(20):
        with wire(url) as client:
            client.send(live + upgrade + b"Content-Length: %d\r\n\r\n" % len(hidden))
            client.send(hidden + live + b"\r\n")

            assert [json.loads(client.answer().body) for _ in range(2)] == [{"status": "ok"}] * 2


def test_a_client_behind_the_proxy_names_neither_host_nor_address(url: str) -> None:
    spoofed = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-For": "192.0.2.66",
        "Forwarded": "host=evil.example",
    }
    with browser(f"{url}{PREFIX}", headers=spoofed) as tab:
        tab.post("/api/v1/users/", json={"email": "eve@example.com", "password": PASSWORD})
        tab.post("/api/v1/token", data={"username": "eve@example.com", "password": PASSWORD})
        (session,) = tab.get("/api/v1/me/sessions").json()
        refused = tab.post("/api/v1/refresh", headers={"Origin": "https://evil.example"})

    assert session["ip_address"] == "127.0.0.1"
    assert {cookie.path for cookie in tab.cookies.jar} == {"/", f"{PREFIX}/api/v1"}
    assert refused.status_code == 403


def test_traefik_takes_the_prefix_away_and_names_every_service_that_it_has() -> None:
    """Without Traefik itself, which Debian does not have."""
    config = yaml.safe_load((DEPLOY / "traefik" / "dynamic.yml").read_text(encoding="utf-8"))["http"]

    routers, middlewares = config["routers"], config["middlewares"]
    assert {router["service"] for router in routers.values()} == set(config["services"])
    assert set(routers["auth"]["middlewares"]) == set(middlewares)
    assert middlewares["without-prefix"]["stripPrefix"]["prefixes"] == [PREFIX]
    assert f"PathPrefix(`{PREFIX}/`)" in routers["auth"]["rule"]
