"""What every answer tells browsers, whoever gives it."""

import base64
import hashlib
import re
from typing import Any

import httpx
import pytest
from fastapi import Request
from sqlalchemy import Engine

from app.application import create_app
from app.cli.running import OPERATOR
from tests.support import (
    LIVE,
    NOWHERE,
    PASSWORD,
    Api,
    MakeService,
    bearer,
    make_settings,
    new_email,
    request,
    serve,
)
from tests.support.accounts import Admin, register, session_of
from tests.support.mailboxes import PURPOSES, issued_token, sending
from tests.support.siblings import Sibling
from tests.support.smtp import SmtpServer
from tests.test_routes import ADMIN, PUBLIC, SIBLING, USER

PAGES = ["/docs", "/redoc"]


def assert_headers(
    response: httpx.Response, policy: str = "default-src 'none'; frame-ancestors 'none'"
) -> None:
    headers = response.headers
    assert headers.get_list("content-security-policy") == [policy]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "strict-transport-security" not in headers


def assert_not_stored(response: httpx.Response) -> None:
    assert_headers(response)
    assert response.headers.get_list("cache-control") == ["no-store"]


PUBLISHED = {"GET /.well-known/jwks.json", "GET /.well-known/oauth-authorization-server"}
"""Of nobody in particular: the one may be stored, the other is absent where the issuer is no URL."""
NOT_STORED = (PUBLIC | USER | ADMIN | set(SIBLING)) - PUBLISHED


class House:
    """A service with an administrator, and for each call somebody whom it is about."""

    def __init__(self, api: Api, fresh_database: Engine) -> None:
        self.api = api
        self.admin, self.sibling = Admin(api, fresh_database), Sibling(api)

    def call(self, name: str) -> httpx.Response:
        method, path = name.split(" ")
        user = register(self.api)
        pair = self.api.log_in(user["email"])
        path = path.replace("{user_id}", str(user["id"])).replace("{session_id}", session_of(pair))
        path = path.replace("{kid}", self.api.operator.key_admin.prepare(OPERATOR, "ES256").kid)
        token = self.admin.token if name in ADMIN else pair["access_token"]
        token = self.sibling.token if name in SIBLING else token
        body: dict[str, Any] = {"json": {"email": new_email(), "password": PASSWORD, "role": "guest"}}
        if name == "PUT /api/v1/me/password":
            body = {"json": {"current_password": PASSWORD, "new_password": f"{PASSWORD} {new_email()}"}}
        elif name == "PUT /api/v1/me/email":
            body = {"json": {"new_email": new_email(), "password": PASSWORD}}
        elif name in PURPOSES:
            token_of_mail = issued_token(self.api, name, user["id"], user["email"])
            body = {"json": {"token": token_of_mail, "new_password": f"{PASSWORD} {new_email()}"}}
        elif name == "POST /api/v1/token":
            body = {"data": {"username": user["email"], "password": PASSWORD}}
        elif name == "POST /api/v1/introspect":
            body = {"data": {"token": pair["access_token"]}}
        elif name == "POST /api/v1/refresh":
            body = {"json": {"refresh_token": pair["refresh_token"]}}
        elif method == "PATCH":
            body = {"json": {"role": "guest"}}
        elif name.endswith("/revoke"):
            body = {"json": {"reason": "a drill"}}
        return self.api.http.request(method, path, headers=bearer(token), **body)


@pytest.fixture
def house(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine, server: SmtpServer
) -> House:
    api = start_service(database_url=fresh_database_url, **sending(server))
    return House(api, fresh_database)


@pytest.mark.slow
def test_what_succeeds_has_the_headers_and_is_not_stored(house: House) -> None:
    for name in sorted(NOT_STORED):
        response = house.call(name)

        assert response.is_success, (name, response.text)
        assert_not_stored(response)


@pytest.mark.parametrize("name", sorted(NOT_STORED))
def test_what_is_refused_has_the_headers_and_is_not_stored(api: Api, name: str) -> None:
    method, path = name.split(" ")

    refused = api.http.request(method, path, headers=bearer("nonsense"))
    not_allowed = api.http.request("TRACE", path)

    assert not_allowed.status_code == 405
    for response in (refused, not_allowed):
        assert_not_stored(response)


def test_other_errors_have_the_headers_too(start_service: MakeService, database_url: str) -> None:
    away = start_service(database_url=NOWHERE)
    app = create_app(make_settings(database_url=database_url))

    @app.get("/broken")
    async def broken(_: Request) -> None:
        raise RuntimeError

    with serve(app) as base_url:
        answers = [
            request("GET", f"{base_url}/broken"),
            request("GET", f"{base_url}/nowhere"),
            request("POST", f"{base_url}/api/v1/users/", content=b"x" * 70_000),
            away.http.get("/api/v1/health"),
            away.register(),
        ]

    assert [each.status_code for each in answers] == [500, 404, 413, 503, 503]
    for response in answers:
        assert_not_stored(response)


def test_preflights_have_the_headers_and_frontends_are_not_kept_out(start_service: MakeService) -> None:
    origin = {"Origin": "https://board.example.com"}
    api = start_service(cors_origins=origin["Origin"])

    asked = api.http.options("/api/v1/me", headers=origin | {"Access-Control-Request-Method": "GET"})
    answered = api.http.get("/api/v1/me", headers=origin)

    for response in (asked, answered):
        assert_not_stored(response)
        assert response.headers["access-control-allow-origin"] == origin["Origin"]


def test_who_comes_by_https_in_production_is_told_to_stay(start_service: MakeService) -> None:
    by_proxy = {"X-Forwarded-Proto": "https"}
    production, development = start_service(environment="production"), start_service()

    stays = production.http.get(LIVE, headers=by_proxy)

    assert stays.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in production.http.get(LIVE).headers
    assert "strict-transport-security" not in development.http.get(LIVE, headers=by_proxy).headers


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("root_path", ["", "/auth"])
def test_the_pages_of_the_documentation_may_run_their_own_scripts_alone(
    database_url: str, path: str, root_path: str
) -> None:
    with serve(create_app(make_settings(database_url=database_url)), root_path=root_path) as base_url:
        page = request("GET", base_url + path)

    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    scripts = " ".join(["'self'", *(f"'sha256-{each}'" for each in hashes)])
    assert len(inline) == (0 if path == "/redoc" else 1)
    assert len(re.findall("<script", page.text)) == len(inline) + 1
    assert_headers(
        page,
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )


def test_the_assets_of_the_documentation_are_stored(api: Api) -> None:
    path = "/static-offline-docs/swagger-ui.css"

    first = api.http.get(path)
    again = api.http.get(path, headers={"If-None-Match": first.headers["etag"]})

    assert (first.status_code, again.status_code) == (200, 304)
    for response in (first, again):
        assert_headers(response)
        assert "cache-control" not in response.headers


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_what_is_published_has_the_headers(start_service: MakeService, name: str) -> None:
    api = start_service(jwt_issuer="https://auth.example.com")

    response = api.http.get(name.removeprefix("GET "))

    assert response.status_code == 200
    assert_headers(response)
