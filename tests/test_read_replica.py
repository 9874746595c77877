"""Lists and the audit trail from a standby, and from the primary where it lags or is away."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from app.database import waiting
from app.resources import STANDBY_CONNECTIONS
from tests.support import HEALTH, Api, Lines, MakeService, at_once, bearer, look_into
from tests.support.accounts import Admin
from tests.support.clusters import DATABASE, Cluster, Node
from tests.support.commands import run_command
from tests.support.waiting import eventually

pytestmark = pytest.mark.process
LISTS = ("/api/v1/admin/users?count=true", "/api/v1/admin/audit")


@pytest.fixture
def api(start_service: MakeService, servers: Cluster) -> Api:
    return start_service(
        database_url=servers.url(servers.primary),
        database_read_url=servers.url(servers.standby, parameters="connect_timeout=2"),
    )


@pytest.fixture
def asked(api: Api) -> list[str]:
    return _asked(api)


def _asked(api: Api) -> list[str]:
    """What the standby is asked from now on."""
    statements: list[str] = []
    standby = api.container.resources.standby
    assert standby is not None
    event.listen(standby.engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    return statements


@pytest.fixture
def soon_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby that failed."""
    monkeypatch.setattr("app.database.reading._LEFT_ALONE_SECONDS", 0.02)
    monkeypatch.setattr("app.database.reading._LEFT_ALONE_MOST_SECONDS", 0.1)


def _admin(api: Api, servers: Cluster) -> Admin:
    engine = look_into(servers.primary.url)
    admin = Admin(api, engine)
    engine.dispose()
    return admin


def _list_pages(admin: Admin) -> list[int]:
    return [admin.api.http.get(path, headers=bearer(admin.token)).status_code for path in LISTS]


def _emails(admin: Admin) -> set[str]:
    return {each["email"] for each in admin.call("GET", "?limit=1000").json()}


def _tables(statements: list[str]) -> set[str]:
    return {name for name in ("users", "audit_events") for each in statements if f"FROM {name}" in each}


@pytest.mark.slow
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
    listed = _emails(admin)
    servers.standby.execute("SELECT pg_wal_replay_resume()")

    assert {email, created} <= listed
    assert not any("FROM users" in statement for statement in asked)


def test_who_changes_a_user_sees_it_although_commits_do_not_wait_for_the_disk(
    api: Api, servers: Cluster
) -> None:
    admin = _admin(api, servers)
    with _set(servers.primary, synchronous_commit="off", wal_writer_delay="10s"):
        for _ in range(10):
            created = api.new_user()
            assert created in _emails(admin)


@pytest.mark.usefixtures("soon_asked_again")
def test_a_role_of_no_privileges_reads_at_the_standby(start_service: MakeService, servers: Cluster) -> None:
    servers.primary.execute(
        "CREATE ROLE kanban_app LOGIN;"
        " GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO kanban_app;"
        " GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO kanban_app"
    )
    urls = [
        servers.url(node).replace("postgres@", "kanban_app@").partition("?")[0]
        for node in (servers.primary, servers.standby)
    ]
    api = start_service(database_url=urls[0], database_read_url=urls[1])
    admin, asked = _admin(api, servers), _asked(api)

    eventually(lambda: _list_pages(admin) == [200, 200] and _tables(asked) == {"users", "audit_events"})


def test_another_database_of_the_standby_is_not_believed(
    start_service: MakeService, servers: Cluster
) -> None:
    servers.primary.execute(f"CREATE DATABASE staging TEMPLATE {DATABASE}", database="postgres")
    read_url = servers.url(servers.standby, parameters="").replace(DATABASE, "staging")
    api = start_service(database_url=servers.url(servers.primary), database_read_url=read_url)
    admin, asked = _admin(api, servers), _asked(api)
    servers.catch_up()

    assert admin.email in _emails(admin)
    assert _tables(asked) == set()
    said = _doctor(servers, read_url)
    assert said == ("warning", "is another database of the same system, so it is not asked")


@pytest.mark.slow
def test_a_standby_that_stayed_behind_in_another_history_is_not_believed(
    start_service: MakeService, servers: Cluster
) -> None:
    with servers.another_standby() as third:
        read_url = servers.url(third, parameters="")
        api = start_service(database_url=servers.url(), database_read_url=read_url)
        admin = _admin(api, servers)
        servers.catch_up()
        _stop_following(servers.standby)
        ghost = api.new_user()
        servers.primary.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))")
        servers.catch_up(third)
        servers.primary.kill()
        servers.fail_over()
        eventually(lambda: api.http.get(HEALTH).status_code == 200)
        created, asked = api.new_user(), _asked(api)

        listed = _emails(admin)

        assert created in listed
        assert ghost not in listed
        assert _tables(asked) == set()
        verdict, text = _doctor(servers, read_url)
        assert verdict == "warning"
        assert re.fullmatch(r"was last on timeline \d+, and the primary is on \d+, so it is not asked", text)


@pytest.mark.slow
@pytest.mark.usefixtures("soon_asked_again")
def test_a_standby_that_followed_a_failover_is_believed_after_a_restartpoint(
    start_service: MakeService, servers: Cluster
) -> None:
    with servers.another_standby() as third:
        third.follow(servers.standby)
        servers.fail_over()
        urls = [servers.url(node, parameters="") for node in (servers.primary, third)]
        api = start_service(database_url=urls[0], database_read_url=urls[1])
        admin, asked = _admin(api, servers), _asked(api)
        servers.primary.execute("CHECKPOINT")
        servers.catch_up(third)
        third.execute("CHECKPOINT")

        eventually(lambda: _list_pages(admin) == [200, 200] and _tables(asked) == {"users", "audit_events"})


@pytest.fixture
def logged(lines: Lines, start_service: MakeService, servers: Cluster) -> Api:
    assert lines.lines == []
    return start_service(
        database_url=servers.url(servers.primary),
        database_read_url=servers.url(servers.standby, parameters=""),
        log_level="WARNING",
        log_format="json",
    )


@pytest.mark.usefixtures("soon_asked_again")
def test_a_standby_that_stays_away_is_asked_ever_more_seldom(
    logged: Api, lines: Lines, servers: Cluster
) -> None:
    admin, asked = _admin(logged, servers), _asked(logged)

    def pauses() -> list[float]:
        assert _list_pages(admin) == [200, 200]
        return [each["seconds"] for each in lines.events("database.standby_away")]

    servers.standby.stop()
    eventually(lambda: len(pauses()) >= 5)
    grown = pauses()
    servers.standby.start()
    eventually(lambda: _list_pages(admin) == [200, 200] and "users" in _tables(asked))
    before = len(pauses())
    servers.standby.stop()
    eventually(lambda: len(pauses()) > before)

    assert grown[:5] == [0.02, 0.04, 0.08, 0.1, 0.1]
    assert pauses()[before] == 0.02


def test_without_its_standby_lists_come_from_the_primary(api: Api, servers: Cluster) -> None:
    admin = _admin(api, servers)

    servers.standby.stop()

    assert _list_pages(admin) == [200, 200]


def test_while_a_frozen_standby_keeps_its_connections_the_other_lists_come_from_the_primary(
    api: Api, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 3600)
    monkeypatch.setattr(waiting, "_DOUBT_SECONDS", 3600)
    admin = _admin(api, servers)
    servers.catch_up()
    assert {status for statuses in at_once(4, lambda _: _list_pages(admin)) for status in statuses} == {200}

    servers.standby.freeze()
    with ThreadPoolExecutor(10) as threads:
        lists = [threads.submit(_emails, admin) for _ in range(10)]
        eventually(lambda: sum(each.done() for each in lists) >= 10 - STANDBY_CONNECTIONS)
        servers.standby.thaw()

    assert all(each.result() for each in lists)


def test_a_standby_that_was_promoted_is_not_believed(api: Api, asked: list[str], servers: Cluster) -> None:
    admin, before = _admin(api, servers), servers.primary

    servers.fail_over()
    listed = _list_pages(admin)

    assert listed == [200, 200]
    assert not any("FROM users" in statement for statement in asked)
    assert servers.standby is before


def test_the_doctor_says_how_the_standby_is(servers: Cluster, database_url: str) -> None:
    servers.catch_up()
    standby, primary = (
        servers.url(node, parameters="connect_timeout=2") for node in (servers.standby, servers.primary)
    )
    verdict, text = _doctor(servers, standby)
    assert verdict == "ok"
    assert re.fullmatch(r"a standby, \d+ bytes behind", text)

    servers.standby.execute("SELECT pg_wal_replay_pause()")
    paused = _doctor(servers, standby)
    servers.standby.execute("SELECT pg_wal_replay_resume()")
    assert paused[0] == "warning"
    assert re.fullmatch(r"has paused its replay, \d+ bytes behind", paused[1])

    assert _doctor(servers, primary) == ("warning", "is no standby, so it is not asked")

    of_another = _doctor(servers, database_url)
    assert of_another == ("warning", "is of another database system, so it is not asked")

    servers.standby.stop()
    verdict, text = _doctor(servers, standby)
    assert (verdict, text.partition(":")[0]) == ("warning", "does not answer, so the primary does")


def _doctor(servers: Cluster, read_url: str) -> tuple[str, str]:
    ended = run_command(servers.url(servers.primary), "doctor", "--json", DATABASE_READ_URL=read_url)
    (found,) = [each for each in json.loads(ended.stdout) if each["subject"] == "read database"]
    return found["verdict"], found["text"]


@contextmanager
def _set(node: Node, **settings: str) -> Iterator[None]:
    """Until the end."""
    _alter(node, *(f"SET {name} = '{value}'" for name, value in settings.items()))
    try:
        yield
    finally:
        _alter(node, *(f"RESET {name}" for name in settings))


def _stop_following(standby: Node) -> None:
    """As one that is cut off from its primary."""
    _alter(standby, "SET primary_conninfo = ''")
    receivers = "SELECT count(*) FROM pg_stat_wal_receiver"
    eventually(lambda: standby.execute(receivers) == 0, lambda: "a standby without its primary")


def _alter(node: Node, *changes: str) -> None:
    for change in changes:
        node.execute(f"ALTER SYSTEM {change}")
    node.execute("SELECT pg_reload_conf()")
