"""The example of deploy/nginx in a real nginx; Debian's package `nginx-light` has it."""

import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.devdb import PROJECT
from tests.support import (
    PASSWORD,
    PATIENCE_SECONDS,
    Api,
    MakeService,
    bearer,
    browser,
    eventually,
    request,
    reserved_port,
)
from tests.support.accounts import Admin, session_of

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


class Board(BaseHTTPRequestHandler):
    """An application that believes the headers of its proxy, and answers with what it got."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 — the base class looks for this name

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def nginx(folder: Path, example: str, api: Api, board: int) -> Iterator[str]:
    """`example` is of the http block, and names the addresses of the service, the application and nginx."""
    with reserved_port() as port:
        for name, address in (
            (r"\bauth:8000", api.base_url.removeprefix("http://")),
            (r"\bboard:80\d\d", f"127.0.0.1:{board}"),
            (r"\blisten 8080", f"listen 127.0.0.1:{port}"),
        ):
            example, found = re.subn(name, address, example)
            assert found
        paths = " ".join(
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;"
            f" events {{}} http {{ access_log off; {paths} {example} }}",
            encoding="utf-8",
        )
        process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(config)])
        try:
            eventually(lambda: _is_open(port) or process.poll() is not None)
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def board() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Board)
    threading.Thread(target=server.serve_forever).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


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
