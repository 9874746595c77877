"""The operators' commands for service tokens."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from app.models.service_tokens import Scope
from tests.support import MakeService, bearer
from tests.support.commands import Ended, run_command
from tests.support.siblings import REVOCATIONS

RunCommand = Callable[..., Ended]


@pytest.fixture
def run(fresh_database_url: str) -> RunCommand:
    return partial(run_command, fresh_database_url)


def test_a_service_token_is_printed_once_and_opens_the_feed(
    run: RunCommand, start_service: MakeService, fresh_database_url: str
) -> None:
    api = start_service(database_url=fresh_database_url)

    created = run("services", "create", "board", "--scopes", "introspect,revocations")

    assert created.returncode == 0, created.stderr
    token = created.stdout.strip()
    assert token.startswith("kas_")
    assert api.http.get(REVOCATIONS, headers=bearer(token)).status_code == 200
    listed = run("services", "list")
    assert token not in listed.stdout + listed.stderr
    assert all(word in listed.stdout for word in ("board", "introspect,revocations", "active"))
    assert run("services", "revoke", "board").stdout == "1 tokens revoked.\n"
    assert api.http.get(REVOCATIONS, headers=bearer(token)).status_code == 401
    assert "revoked" in run("services", "list").stdout


def test_commands_of_service_tokens_speak_json(run: RunCommand) -> None:
    created = json.loads(run("services", "create", "prometheus", "--scopes", "metrics", "--json").stdout)
    listed = json.loads(run("services", "list", "--json").stdout)
    revoked = json.loads(run("services", "revoke", str(created["id"]), "--json").stdout)

    assert created["scopes"] == [Scope.METRICS]
    assert [each["name"] for each in listed] == ["prometheus"]
    assert "token" not in listed[0]
    assert created["created_at"].endswith("Z")
    assert revoked == {"revoked": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "board"], "--scopes"),
        (["create", "board", "--scopes", ""], "introspect, revocations, metrics"),
        (["create", "board", "--scopes", "admin"], "introspect, revocations, metrics"),
        (["create", "Board", "--scopes", "metrics"], "a-z"),
        (["create", "7", "--scopes", "metrics"], "a-z"),
        (["revoke", "nobody"], "There is no such"),
        (["revoke", "99999999999999999999"], "There is no such"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(run: RunCommand, arguments: list[str], said: str) -> None:
    result = run("services", *arguments)

    assert result.returncode != 0
    assert said in result.stderr
    assert "Traceback" not in result.stderr
