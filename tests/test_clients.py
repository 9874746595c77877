"""The clients of `clients/` and the service agree: signed out here is refused there, at any replica."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import pytest
from sqlalchemy import Engine

from tests.support import Api, MakeService, eventually
from tests.support.accounts import Admin
from tests.support.judges import Judge, has_node_judge, node_judge, python_judge
from tests.support.settings import SECRET_KEY
from tests.support.siblings import Sibling

needs_node = pytest.mark.skipif(not has_node_judge(), reason="`make clients-test` has not built it")
JUDGES = [
    pytest.param(python_judge, id="python"),
    pytest.param(node_judge, id="node", marks=needs_node),
]
OTHER_SECRET = "a secret that siblings share, and of 32 bytes"
OpenJudge = Callable[[str, str, str], AbstractContextManager[Judge]]


class Deployment(NamedTuple):
    """Two replicas; the sibling is connected to the second."""

    first: Api
    second: Api
    judge: Judge


@pytest.fixture(params=JUDGES)
def deployment(
    request: pytest.FixtureRequest, start_service: MakeService, fresh_database_url: str
) -> Iterator[Deployment]:
    first, second = (start_service(database_url=fresh_database_url) for _ in range(2))
    open_judge: OpenJudge = request.param
    with open_judge(second.base_url, Sibling(first).token, SECRET_KEY) as judge:
        yield Deployment(first, second, judge)


def user_id(api: Api, access_token: str) -> str:
    return str(api.me(access_token).json()["id"])


def test_a_token_of_the_service_is_good_and_names_its_user(deployment: Deployment) -> None:
    pair = deployment.first.log_in()

    assert deployment.judge(pair["access_token"]) == user_id(deployment.first, pair["access_token"])


def test_a_refresh_token_is_no_access_token(deployment: Deployment) -> None:
    assert deployment.judge(deployment.first.log_in()["refresh_token"]) == "invalid_token"


@pytest.mark.parametrize("replica", ["first", "second"])
def test_a_logout_at_either_replica_is_felt(deployment: Deployment, replica: str) -> None:
    api: Api = getattr(deployment, replica)
    token, other = (api.log_in()["access_token"] for _ in range(2))
    api.log_out(token)

    eventually(lambda: deployment.judge(token) == "token_revoked")
    assert deployment.judge(other) == user_id(api, other)


def test_a_session_that_has_ended_before_the_sibling_started_is_refused_at_once(
    start_service: MakeService, fresh_database_url: str
) -> None:
    api = start_service(database_url=fresh_database_url)
    token = api.log_in()["access_token"]
    api.log_out(token)

    with python_judge(api.base_url, Sibling(api).token, SECRET_KEY) as judge:
        assert judge(token) == "token_revoked"


def test_a_changed_role_is_felt_until_the_next_refresh(
    deployment: Deployment, fresh_database: Engine
) -> None:
    api, judge = deployment.first, deployment.judge
    pair = api.log_in()
    number = user_id(api, pair["access_token"])
    Admin(api, fresh_database).change(int(number), role="guest")

    eventually(lambda: judge(pair["access_token"]) == "token_expired")

    assert judge(api.refresh(pair["refresh_token"]).json()["access_token"]) == number


def test_a_user_who_is_disabled_or_deleted_is_refused(deployment: Deployment, fresh_database: Engine) -> None:
    api, admin = deployment.first, Admin(deployment.first, fresh_database)
    disabled, deleted = (api.log_in()["access_token"] for _ in range(2))
    admin.change(int(user_id(api, disabled)), is_active=False)
    admin.call("DELETE", f"/{user_id(api, deleted)}")

    eventually(lambda: deployment.judge(disabled) == "token_revoked")
    eventually(lambda: deployment.judge(deleted) == "token_revoked")


@pytest.fixture(params=JUDGES)
def open_judge(request: pytest.FixtureRequest) -> OpenJudge:
    opener: OpenJudge = request.param
    return opener


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_sibling_without_our_secret_verifies_what_our_keys_sign(
    start_service: MakeService, fresh_database_url: str, open_judge: OpenJudge, algorithm: str
) -> None:
    api = start_service(database_url=fresh_database_url, jwt_algorithm=algorithm)
    with open_judge(api.base_url, Sibling(api).token, OTHER_SECRET) as judge:
        token = api.log_in()["access_token"]
        assert judge(token) == user_id(api, token)

        api.log_out(token)

        eventually(lambda: judge(token) == "token_revoked")


def test_on_the_way_to_keys_a_sibling_takes_tokens_of_both_kinds(
    start_service: MakeService, fresh_database_url: str, open_judge: OpenJudge
) -> None:
    shared = {"database_url": fresh_database_url, "jwt_secret": OTHER_SECRET}
    old, new = start_service(**shared), start_service(**shared, jwt_algorithm="ES256")

    with open_judge(new.base_url, Sibling(new).token, OTHER_SECRET) as judge:
        for api in (old, new):
            token = api.log_in()["access_token"]
            assert judge(token) == user_id(new, token)
