"""The dependency, and answers that look like the service's."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

import pytest
from fastapi import Depends, FastAPI
from httpx import Client, Response

from kanban_auth_verify import AccessClaims
from kanban_auth_verify.fastapi import install_error_handler, signed_in
from kanban_auth_verify.testing import FakeAuthService
from serving import serving

INVALID = 'Bearer error="invalid_token"'


@pytest.fixture(scope="module")
def auth() -> FakeAuthService:
    return FakeAuthService()


def application(auth: FakeAuthService) -> FastAPI:
    verifier = auth.async_verifier()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with verifier:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/boards")
    async def boards(claims: Annotated[AccessClaims, Depends(signed_in(verifier))]) -> int:
        return claims.user_id

    @app.get("/users", dependencies=[Depends(signed_in(verifier, role="admin"))])
    async def users() -> str:
        return "all"

    return app


@pytest.fixture(scope="module")
def client(auth: FakeAuthService) -> Iterator[Client]:
    app = application(auth)
    install_error_handler(app)
    with serving(app) as url, Client(base_url=url) as client:
        yield client


def get(client: Client, path: str, token: str | None = None, scheme: str = "Bearer") -> Response:
    return client.get(path, headers={} if token is None else {"Authorization": f"{scheme} {token}".strip()})


def answer(response: Response) -> tuple[int, str, str | None]:
    body = response.json()
    assert set(body) == {"detail", "code"}
    return response.status_code, body["code"], response.headers.get("www-authenticate")


def test_the_claims_reach_the_handler(auth: FakeAuthService, client: Client) -> None:
    assert get(client, "/boards", auth.issue_test_token(42)).json() == 42
    assert get(client, "/boards", auth.issue_test_token(42), "bearer").json() == 42


def test_each_refusal_has_the_services_shape(auth: FakeAuthService, client: Client) -> None:
    session = uuid4()
    revoked = auth.issue_test_token(session_id=session)
    auth.end_session(session)

    assert answer(get(client, "/boards")) == (401, "not_authenticated", "Bearer")
    assert answer(get(client, "/boards", "x", "Basic")) == (401, "not_authenticated", "Bearer")
    assert answer(get(client, "/boards", "")) == (401, "not_authenticated", "Bearer")
    assert answer(get(client, "/boards", "x")) == (401, "invalid_token", INVALID)
    assert answer(get(client, "/boards", auth.issue_test_token(lifetime=-60))) == (
        401,
        "token_expired",
        INVALID,
    )
    assert answer(get(client, "/boards", revoked)) == (401, "token_revoked", INVALID)


def test_a_role_is_asked_for(auth: FakeAuthService, client: Client) -> None:
    assert get(client, "/users", auth.issue_test_token(role="admin")).json() == "all"
    assert answer(get(client, "/users", auth.issue_test_token(role="user"))) == (403, "forbidden", None)
    assert answer(get(client, "/users")) == (401, "not_authenticated", "Bearer")


def test_a_service_that_is_down_is_no_fault_of_the_user() -> None:
    auth = FakeAuthService()
    auth.is_down = True
    app = application(auth)
    install_error_handler(app)

    with serving(app) as url, Client(base_url=url) as client:
        response = get(client, "/boards", auth.issue_test_token())

    assert answer(response) == (503, "unavailable", None)
    assert response.headers["retry-after"] == "1"


def test_a_forgotten_error_handler_lets_nobody_in(auth: FakeAuthService) -> None:
    with serving(application(auth)) as url, Client(base_url=url) as client:
        response = get(client, "/boards", "x")

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == INVALID
