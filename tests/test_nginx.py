"""The example of deploy/nginx in a real nginx; Debian's package `nginx-light` has it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.devdb import PROJECT
from tests.support import (
    PASSWORD,
    Api,
    MakeService,
    bearer,
    browser,
    request,
)
from tests.support.accounts import Admin, session_of
from tests.support.proxies import board_server, nginx

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed"),
]
EXAMPLE = PROJECT / "deploy" / "nginx" / "forward-auth.conf"
DOCUMENT = PROJECT / "docs" / "siblings.md"
SPOOFED = {
    "X-Auth-User-Id": "1",
    "X-Auth-Role": "admin",
    "X-Auth-Session-Id": "x",
    "X-Original-Method": "GET",
    "X-Forwarded-Method": "GET",
}


@pytest.fixture(scope="module")
def board() -> Iterator[int]:
    with board_server() as port:
        yield port


@pytest.fixture
def proxied(
    start_service: MakeService, fresh_database_url: str, tmp_path: Path, board: int
) -> Iterator[tuple[Api, str]]:
    api = start_service(database_url=fresh_database_url)
    with nginx(tmp_path, EXAMPLE.read_text(encoding="utf-8"), api, board) as url:
        yield api, url


def test_the_application_hears_from_the_proxy_who_is_signed_in(proxied: tuple[Api, str]) -> None:
    api, url = proxied
    pair = api.log_in()
    user = api.me(pair["access_token"]).json()

    heard = request("GET", url + "/cards", headers=bearer(pair["access_token"]) | SPOOFED).json()

    assert heard["x-auth-user-id"] == str(user["id"])
    assert heard["x-auth-role"] == "user"
    assert heard["x-auth-session-id"] == session_of(pair)


@pytest.mark.parametrize("path", ["/cards", "/admin/", "/_verify", "/_verify_admin"])
def test_headers_from_outside_open_nothing(proxied: tuple[Api, str], path: str) -> None:
    _, url = proxied

    for method in ("GET", "POST"):
        assert request(method, url + path, headers=SPOOFED).status_code in (401, 404)


def test_a_token_without_a_session_leaves_no_header_of_the_clients(proxied: tuple[Api, str]) -> None:
    api, url = proxied
    pair = api.log_in()
    api.log_out(pair["access_token"])

    refused = request("GET", url + "/cards", headers=bearer(pair["access_token"]) | SPOOFED)

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_the_administrators_part_is_for_administrators(
    proxied: tuple[Api, str], fresh_database: Engine
) -> None:
    api, url = proxied
    admin, user = Admin(api, fresh_database), api.log_in()["access_token"]

    for path in (
        "/admin/",
        "/admin",
        "/ADMIN/",
        "/aDmin/users",
        "/%41dmin/",
        "//ADMIN/",
        "/admin;x/",
        "/a/../Admin",
    ):
        heard = request("GET", url + path, headers=bearer(admin.token) | SPOOFED).json()
        assert (heard["x-auth-role"], heard["x-auth-user-id"]) == ("admin", str(admin.id))
        assert request("GET", url + path, headers=bearer(user)).status_code == 403


def test_a_browser_logs_in_through_the_proxy_and_uses_its_cookie(proxied: tuple[Api, str]) -> None:
    api, url = proxied
    email = api.new_user()

    with browser(url) as client:
        client.post("/api/v1/token", data={"username": email, "password": PASSWORD})
        assert client.get("/cards").json()["x-auth-role"] == "user"
        same_site = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/cards", headers=same_site).status_code == 200
        other_site = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert client.post("/cards", headers=other_site | SPOOFED).status_code == 403
        assert client.post("/api/v1/logout").status_code == 204
        assert client.get("/cards").status_code == 401


def test_the_snippet_of_the_document_works(api: Api, tmp_path: Path, board: int) -> None:
    (snippet,) = re.findall(r"(?s)```nginx\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"))
    pair, email = api.log_in(), api.new_user()

    with nginx(tmp_path, f"server {{ listen 8080; {snippet} }}", api, board) as url:
        heard = request("GET", url + "/boards/1", headers=bearer(pair["access_token"]) | SPOOFED).json()
        user = api.me(pair["access_token"]).json()
        assert (heard["x-auth-user-id"], heard["x-auth-role"]) == (str(user["id"]), "user")
        assert (heard["x-auth-session-id"], heard["host"]) == (session_of(pair), url.removeprefix("http://"))
        assert request("GET", url + "/boards/1", headers=SPOOFED).status_code == 401
        with browser(api.base_url) as client:
            client.post("/api/v1/token", data={"username": email, "password": PASSWORD})
            cookie = {"Cookie": f"access_token={client.cookies['access_token']}"}
        own = {"Origin": url} | cookie
        assert request("POST", url + "/boards/1", headers=own).status_code == 200
        other_site = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"} | cookie
        assert request("POST", url + "/boards/1", headers=other_site | SPOOFED).status_code == 403
