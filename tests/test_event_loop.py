"""Nothing stops the event loop: what waits, waits in a greenlet or on a thread."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from app.application import create_app
from app.cli.running import OPERATOR
from app.models.users import Role
from app.routers import ROUTERS
from app.security.passwords import PasswordHasher
from app.services.accounts.profile import Account
from tests.support import LIVE, PASSWORD, Api, Serving, bearer, make_settings, new_email
from tests.support.accounts import session_of
from tests.support.mailboxes import issued_token, sending
from tests.support.siblings import Sibling
from tests.support.smtp import SmtpServer
from tests.test_routes import SIBLING

OPERATIONS = sorted(
    f"{method} {route.path}"
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)
ABSENT = {"GET /.well-known/oauth-authorization-server", "GET /dev/mail"}
"""404, as the issuer is no URL, and as there is a mail server."""
SLOW_SECONDS = 0.05
ATTEMPTS = 10
"""What stops the loop does so each time; a busy machine, now and then."""


class WatchedLoop(asyncio.SelectorEventLoop):
    """In asyncio's debug mode, which uvicorn would turn off."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_callback_duration = SLOW_SECONDS

    def set_debug(self, _: object) -> None:
        super().set_debug(True)


@pytest.fixture(scope="module")
def watched(database_url: str, server: SmtpServer) -> Iterator[Api]:
    """At 10 rounds a hash takes longer than a callback may. An admin stays, so that others can go."""
    settings = make_settings(
        database_url=database_url,
        bcrypt_rounds=10,
        throttles=True,
        throttle_register_address="1000/1s",
        **sending(server),
    )
    app = create_app(settings)
    serving = Serving(app, loop=f"{__name__}:WatchedLoop")
    api = Api(serving.base_url, app)
    _make_admin(api, api.new_user())
    yield api
    api.close()
    serving.ask_to_stop()
    serving.join()


def _make_admin(api: Api, email: str) -> Account:
    user = api.operator.admin.find(email)
    api.operator.admin.change(OPERATOR, user.id, role=Role.ADMIN)
    return user


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "took" in record.getMessage():
                messages.append(record.getMessage())

    logger, handler = logging.getLogger("asyncio"), Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    yield messages
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def call(watched: Api, api: Api, operation: str) -> int:
    """As an administrator of its own, whom another service has made: its hashes are quick."""
    method, path = operation.split(" ")
    email = api.new_user()
    user = _make_admin(api, email)
    pair = api.log_in(email)
    if "{user_id}" in path:
        path = path.replace("{user_id}", str(api.register().json()["id"]))
    if "{session_id}" in path:
        path = path.replace("{session_id}", session_of(pair))
    if "{kid}" in path:
        path = path.replace("{kid}", api.operator.key_admin.prepare(OPERATOR, "ES256").kid)
    body: dict[str, Any] = {
        "email": new_email(),
        "password": PASSWORD,
        "current_password": PASSWORD,
        "new_password": PASSWORD,
        "new_email": new_email(),
        "token": issued_token(api, operation, user.id, email),
        "refresh_token": pair["refresh_token"],
        "algorithm": "RS256",  # the one that takes long to make
        "reason": "a drill",
    }
    if method == "PATCH":
        body = {"role": "guest"}
    content: dict[str, Any] = {"json": body}
    if operation in SIBLING:
        pair["access_token"], content = Sibling(api).token, {"data": {"token": pair["access_token"]}}
    if method == "GET":
        content = {}
    if path.startswith("/account/"):
        form = {"token": body["token"] or "of a mail", "new_password": PASSWORD}
        content = {"params" if method == "GET" else "data": form}
    if path.endswith("/token"):
        content = {"data": {"username": email, "password": PASSWORD}}
    response = watched.http.request(method, path, headers=bearer(pair["access_token"]), **content)
    return response.status_code


def test_what_stops_the_event_loop_is_noticed(watched: Api, complaints: list[str]) -> None:
    watched.app.add_api_route("/stopping", in_the_loop, include_in_schema=False)

    watched.http.get("/stopping")

    watched.http.get(LIVE)  # by now the loop has said what it thinks of the one before
    assert complaints


async def in_the_loop() -> None:
    PasswordHasher(10).hash(PASSWORD)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_stops_the_event_loop(
    watched: Api, api: Api, complaints: list[str], operation: str
) -> None:
    for _ in range(ATTEMPTS):
        complaints.clear()
        assert call(watched, api, operation) in (200, 201, 202, 204) or operation in ABSENT
        watched.http.get(LIVE)  # by now the loop has said what it thinks of the one before
        if not complaints:
            return
    pytest.fail("\n".join(complaints))
