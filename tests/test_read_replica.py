"""Lists and the audit trail from a standby, and from the primary where it lags or is away."""

import json
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import event

from tests.support import HEALTH, Api, MakeService, bearer, look_into
from tests.support.accounts import Admin
from tests.support.clusters import Cluster, Node, cluster
from tests.support.commands import run_command
from tests.support.waiting import eventually

pytestmark = pytest.mark.process
LISTS = ("/api/v1/admin/users?count=true", "/api/v1/admin/audit")


@pytest.fixture(scope="module")
def _servers() -> Iterator[Cluster]:
    with cluster() as servers:
        yield servers


@pytest.fixture
def servers(_servers: Cluster) -> Iterator[Cluster]:
    yield _servers
    _servers.heal()


@pytest.fixture
def api(start_service: MakeService, servers: Cluster) -> Api:
    return start_service(
        database_url=servers.url(servers.primary),
        database_read_url=servers.url(servers.standby, parameters="connect_timeout=2"),
    )


@pytest.fixture
def asked(api: Api) -> list[str]:
    """What the standby was asked."""
    statements: list[str] = []
    standby = api.container.resources.standby
    assert standby is not None
    event.listen(standby.engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    return statements


def _admin(api: Api, servers: Cluster) -> Admin:
    engine = look_into(servers.primary.url)
    admin = Admin(api, engine)
    engine.dispose()
    return admin


def _list_pages(admin: Admin) -> list[int]:
    return [admin.api.http.get(path, headers=bearer(admin.token)).status_code for path in LISTS]


def _tables(statements: list[str]) -> set[str]:
    return {name for name in ("users", "audit_events") for each in statements if f"FROM {name}" in each}


def test_a_standby_answers_lists_and_nothing_that_must_be_fresh(
    api: Api, asked: list[str], servers: Cluster
) -> None:
    admin = _admin(api, servers)
    pair = api.log_in()
    assert api.me(pair["access_token"]).status_code == 200
    assert api.refresh(pair["refresh_token"]).status_code == 200
    assert api.http.get(HEALTH).status_code == 200
    assert asked == []
    servers.catch_up()

    eventually(lambda: _list_pages(admin) == [200, 200] and _tables(asked) == {"users", "audit_events"})


def test_who_changes_a_user_sees_it_although_the_standby_lags(
    api: Api, asked: list[str], servers: Cluster
) -> None:
    admin, email = _admin(api, servers), api.new_user()
    servers.catch_up()
    servers.standby.execute("SELECT pg_wal_replay_pause()")

    created = api.new_user()
    listed = [each["email"] for each in admin.call("GET", "?limit=100").json()]
    servers.standby.execute("SELECT pg_wal_replay_resume()")

    assert {email, created} <= set(listed)
    assert not any("FROM users" in statement for statement in asked)


def test_without_its_standby_lists_come_from_the_primary(api: Api, servers: Cluster) -> None:
    admin = _admin(api, servers)

    servers.standby.stop()

    assert _list_pages(admin) == [200, 200]


def test_a_standby_that_was_promoted_is_not_believed(api: Api, asked: list[str], servers: Cluster) -> None:
    admin, before = _admin(api, servers), servers.primary

    servers.fail_over()
    listed = _list_pages(admin)

    assert listed == [200, 200]
    assert not any("FROM users" in statement for statement in asked)
    assert servers.standby is before


def test_the_doctor_says_how_the_standby_is(servers: Cluster) -> None:
    servers.catch_up()
    verdict, text = _doctor(servers, servers.standby)
    assert verdict == "ok"
    assert re.fullmatch(r"a standby, \d+ bytes behind", text)

    servers.standby.execute("SELECT pg_wal_replay_pause()")
    paused = _doctor(servers, servers.standby)
    servers.standby.execute("SELECT pg_wal_replay_resume()")
    assert paused[0] == "warning"
    assert re.fullmatch(r"has paused its replay, \d+ bytes behind", paused[1])

    assert _doctor(servers, servers.primary) == ("warning", "is no standby, so it is not asked")

    servers.standby.stop()
    verdict, text = _doctor(servers, servers.standby)
    assert (verdict, text.partition(":")[0]) == ("warning", "does not answer, so the primary does")


def _doctor(servers: Cluster, asked: Node) -> tuple[str, str]:
    url = servers.url(asked, parameters="connect_timeout=2")
    ended = run_command(servers.url(servers.primary), "doctor", "--json", DATABASE_READ_URL=url)
    (found,) = [each for each in json.loads(ended.stdout) if each["subject"] == "read database"]
    return found["verdict"], found["text"]
