"""Live answers about access tokens: RFC 7662, and the forward authentication of proxies."""

import pytest
from sqlalchemy import Engine

from app.models.service_tokens import Scope
from tests.support import PASSWORD, Api, MakeService, MovableClock, bearer, browser, error_of
from tests.support.accounts import Admin, session_of
from tests.support.siblings import Sibling

VERIFY = "/api/v1/verify"
INACTIVE = {"active": False}


def test_an_active_token_is_described_with_the_role_of_now(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    api = start_service(database_url=fresh_database_url)
    admin, sibling = Admin(api, fresh_database), Sibling(api)
    pair = api.log_in()
    user = api.me(pair["access_token"]).json()

    answer = sibling.introspect(pair["access_token"])

    body = answer.json()
    assert body["exp"] - body["iat"] == 900
    assert (body["active"], body["sub"], body["sid"]) == (True, str(user["id"]), session_of(pair))
    assert (body["role"], body["iss"], body["token_type"]) == ("user", "kanban-auth", "Bearer")
    admin.change(user["id"], role="guest")
    assert sibling.introspect(pair["access_token"]).json()["role"] == "guest"
    admin.change(user["id"], is_active=False)
    assert sibling.introspect(pair["access_token"]).json() == INACTIVE


def test_nothing_is_said_of_a_token_that_is_not_active(start_service: MakeService) -> None:
    clock = MovableClock()
    api = start_service(clock=clock)
    sibling, pair, expired = Sibling(api), api.log_in(), api.log_in()
    api.log_out(pair["access_token"])
    clock.move(minutes=15)

    for token in (
        *("x", "a.b.c", sibling.token),
        *(pair["access_token"], pair["refresh_token"]),
        *(expired["access_token"], expired["refresh_token"]),
    ):
        answer = sibling.introspect(token)
        assert (answer.status_code, answer.json()) == (200, INACTIVE), token


def test_introspection_demands_the_scope_and_a_token(api: Api) -> None:
    headers = bearer(Sibling(api, Scope.INTROSPECT).token)

    assert error_of(api.http.post("/api/v1/introspect", headers=headers)) == (400, "validation_error")
    assert error_of(api.http.post("/api/v1/introspect", data={"token": "x"})) == (401, "not_authenticated")
    assert error_of(Sibling(api, Scope.METRICS).introspect("x")) == (403, "forbidden")


def test_a_proxy_is_told_who_sends_a_request(api: Api) -> None:
    pair = api.log_in()
    user = api.me(pair["access_token"]).json()

    answer = api.http.get(VERIFY, headers=bearer(pair["access_token"]))

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["x-auth-user-id"] == str(user["id"])
    assert answer.headers["x-auth-role"] == "user"
    assert answer.headers["x-auth-session-id"] == session_of(pair)
    assert error_of(api.http.get(VERIFY)) == (401, "not_authenticated")
    assert error_of(api.http.get(VERIFY, headers=bearer("x"))) == (401, "invalid_token")
    api.log_out(pair["access_token"])
    assert error_of(api.http.get(VERIFY, headers=bearer(pair["access_token"]))) == (401, "token_revoked")


def test_a_proxy_may_demand_a_role(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    api = start_service(database_url=fresh_database_url)
    admin, user = Admin(api, fresh_database), api.log_in()["access_token"]

    def verify(token: str) -> int:
        return api.http.get(VERIFY, params={"role": "admin"}, headers=bearer(token)).status_code

    assert (verify(admin.token), verify(user)) == (204, 403)
    wrong = api.http.get(VERIFY, params={"role": "king"}, headers=bearer(user))
    assert error_of(wrong) == (400, "validation_error")


@pytest.mark.parametrize("header", ["X-Forwarded-Method", "X-Original-Method"])
def test_a_proxy_learns_that_another_site_uses_the_cookie(api: Api, header: str) -> None:
    with browser(api.base_url) as client:
        client.post("/api/v1/token", data={"username": api.new_user(), "password": PASSWORD})
        cookies = {"Cookie": f"access_token={client.cookies['access_token']}"}
    other_site = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}

    def verify(method: str, **headers: str) -> tuple[int, str] | int:
        answer = api.http.get(VERIFY, headers={header: method} | cookies | headers)
        return answer.status_code if answer.status_code == 204 else error_of(answer)

    assert verify("GET", **other_site) == 204
    assert verify("POST", **{"Sec-Fetch-Site": "same-origin"}) == 204
    assert verify("POST", **other_site) == (403, "cross_site_request")
    assert verify("DELETE", **other_site) == (403, "cross_site_request")


@pytest.mark.parametrize(
    "named",
    [
        [("X-Forwarded-Method", "GET"), ("X-Original-Method", "POST")],
        [("X-Forwarded-Method", "POST"), ("X-Original-Method", "GET")],
        [("X-Original-Method", "GET"), ("X-Original-Method", "POST")],
        [("X-Original-Method", "POST"), ("X-Original-Method", "GET")],
        [("X-Forwarded-Method", "GET, DELETE")],
    ],
)
def test_of_several_methods_that_are_named_the_unsafe_one_counts(
    api: Api, named: list[tuple[str, str]]
) -> None:
    with browser(api.base_url) as client:
        client.post("/api/v1/token", data={"username": api.new_user(), "password": PASSWORD})
        cookie = f"access_token={client.cookies['access_token']}"
    other_site = [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example"), ("Cookie", cookie)]

    answer = api.http.get(VERIFY, headers=[*named, *other_site])

    assert error_of(answer) == (403, "cross_site_request")


@pytest.mark.parametrize("path", [VERIFY, f"{VERIFY}?role=admin"])
def test_options_lets_nobody_pass(start_service: MakeService, path: str) -> None:
    api = start_service(cors_origins=["https://board.example.com"])
    preflight = {"Origin": "https://board.example.com", "Access-Control-Request-Method": "POST"}

    for headers in ({}, preflight, bearer("x")):
        answer = api.http.options(path, headers=headers)

        assert error_of(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD"
    for below in (f"{VERIFY}/", f"{VERIFY}/boards"):
        assert not api.http.options(below, headers=preflight).is_success


@pytest.mark.parametrize("query", ["Role=admin", "roles=admin", "role=user&x=", "admin"])
def test_a_demand_that_nobody_understands_lets_nobody_pass(api: Api, query: str) -> None:
    answer = api.http.get(f"{VERIFY}?{query}", headers=bearer(api.log_in()["access_token"]))

    assert error_of(answer) == (400, "validation_error")
