"""Who may call what: no route is public, or a user's, by accident."""

from collections.abc import Iterator
from typing import get_args

import httpx
import pytest
from fastapi.routing import APIRoute

from app.http.authentication import AccessToken, AdminOnly, LogoutCredential
from app.http.bodies import MAX_BODY_BYTES
from app.http.middleware.observability import route_of
from app.http.routing import LimitedRoute
from app.http.service_tokens import ServiceTokenRequired
from app.models.service_tokens import Scope
from app.routers import ROUTERS
from tests.support import PASSWORD, Api, bearer, error_of

ROUTES = {
    f"{method} {route.path}": route
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
}
PUBLIC = {
    "POST /api/v1/users/",
    "POST /api/v1/token",
    "POST /api/v1/password/forgot",
    "POST /api/v1/password/reset",  # guarded, like the next two, by the token of a mail
    "POST /api/v1/email/verify",
    "POST /api/v1/email/restore",
    "POST /api/v1/refresh",  # guarded by the refresh token itself
    "GET /api/v1/health",
    "GET /api/v1/health/live",
    "GET /health",
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /metrics",  # guarded by METRICS_TOKEN, where there is one
}
_ACCOUNT_PAGES = ("reset", "verify", "email", "restore")
PAGES = {
    "GET /dev/mail",
    *(f"GET /account/{page}" for page in _ACCOUNT_PAGES),
    *(f"POST /account/{page}" for page in _ACCOUNT_PAGES),  # guarded by the token of a mail
}
"""Public too, for people with a browser: the OpenAPI document is silent of them."""
USER = {
    "GET /api/v1/me",
    "PUT /api/v1/me/password",
    "PUT /api/v1/me/email",
    "POST /api/v1/me/email/verification",
    "POST /api/v1/me/delete",
    "GET /api/v1/me/sessions",
    "GET /api/v1/me/sessions/ended",
    "DELETE /api/v1/me/sessions",
    "DELETE /api/v1/me/sessions/{session_id}",
    "POST /api/v1/logout",
    "GET /api/v1/verify",
}
ADMIN = {
    "GET /api/v1/admin/users",
    "POST /api/v1/admin/users",
    "GET /api/v1/admin/users/{user_id}",
    "PATCH /api/v1/admin/users/{user_id}",
    "PATCH /api/v1/admin/users/{user_id}/role",
    "DELETE /api/v1/admin/users/{user_id}",
    "POST /api/v1/admin/users/{user_id}/password-reset",
    "GET /api/v1/admin/users/{user_id}/sessions",
    "DELETE /api/v1/admin/users/{user_id}/sessions",
    "GET /api/v1/admin/audit",
    "GET /api/v1/admin/keys",
    "POST /api/v1/admin/keys/prepare",
    "POST /api/v1/admin/keys/rotate",
    "POST /api/v1/admin/keys/rewrap",
    "POST /api/v1/admin/keys/{kid}/revoke",
}


SIBLING = {
    "GET /api/v1/revocations": Scope.REVOCATIONS,
    "POST /api/v1/introspect": Scope.INTROSPECT,
}


_ACCESS_TOKEN, _LOGOUT = (get_args(alias)[-1].dependency for alias in (AccessToken, LogoutCredential))


def guards(dependant: object) -> Iterator[object]:
    for dependency in dependant.dependencies:  # type: ignore[attr-defined]
        yield dependency.call
        yield from guards(dependency)


def level(route: APIRoute) -> str:
    found = list(guards(route.dependant))
    if AdminOnly.dependency in found:
        return "admin"
    if any(isinstance(each, ServiceTokenRequired) for each in found):
        return "sibling"
    return "user" if _ACCESS_TOKEN in found or _LOGOUT in found else "public"


def test_each_route_is_public_a_users_an_admins_or_a_siblings_as_listed() -> None:
    by_level = {name: {each for each, route in ROUTES.items() if level(route) == name} for name in
                ("public", "user", "admin", "sibling")}  # fmt: skip

    assert by_level == {"public": PUBLIC | PAGES, "user": USER, "admin": ADMIN, "sibling": set(SIBLING)}


def test_every_route_limits_the_body_it_reads() -> None:
    assert {type(route) for route in ROUTES.values() if not isinstance(route, LimitedRoute)} == set()
    assert {route.max_body_size for route in ROUTES.values()} == {MAX_BODY_BYTES}


@pytest.mark.parametrize(("name", "scope"), SIBLING.items())
def test_a_siblings_route_demands_its_scope(name: str, scope: Scope) -> None:
    required = {
        each.scope for each in guards(ROUTES[name].dependant) if isinstance(each, ServiceTokenRequired)
    }

    assert required == {scope}


def call(api: Api, name: str, token: str | None) -> httpx.Response:
    method, path = name.split(" ")
    path = path.replace("{user_id}", "1").replace("{session_id}", "7b0c1f5e-2f5c-4bb0-9a86-5d1a6f7d3a10")
    body = {"email": "somebody@example.com", "password": PASSWORD, "role": "user",
            "current_password": PASSWORD, "new_password": PASSWORD}  # fmt: skip
    if method == "PATCH":
        body = {"role": "user"}
    headers = bearer(token) if token else {}
    return api.http.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize("name", sorted(USER | ADMIN | set(SIBLING)))
def test_without_a_token_no_guarded_route_lets_anybody_in(api: Api, name: str) -> None:
    assert error_of(call(api, name, None)) == (401, "not_authenticated")
    assert error_of(call(api, name, "x")) == (401, "invalid_token")


@pytest.mark.parametrize("name", sorted(ADMIN))
def test_a_user_is_let_into_no_route_of_an_admin(api: Api, name: str) -> None:
    response = call(api, name, api.log_in()["access_token"])

    assert error_of(response) == (403, "forbidden")
    assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'  # RFC 6750 §3.1


def test_a_request_that_no_route_took_has_a_name_of_its_own() -> None:
    assert route_of({"type": "http"}) == "<unmatched>"
