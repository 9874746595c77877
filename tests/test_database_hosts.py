"""Several database hosts: one of them refuses, freezes, or is a standby."""

import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext

import psycopg2
import pytest
from sqlalchemy import Engine, make_url, text

from app.database import engine, hosts, waiting
from app.database.silence import Address, answers
from app.database_settings import POOL_SIZE
from app.resources import BACKGROUND_CONNECTIONS
from app.services.sessions.rotation import REPLAY_WINDOW
from tests.support import (
    HEALTH,
    Api,
    MakeService,
    MovableClock,
    StartProcess,
    at_once,
    error_of,
    eventually,
    look_into,
    patient,
)
from tests.support.accounts import Admin
from tests.support.clusters import Cluster
from tests.support.commands import run_command
from tests.support.siblings import Sibling

pytestmark = pytest.mark.process


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Takes connections and says nothing, as a frozen server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)  # noqa: FBT003 — the standard library's
        yield listener


def _behind(silent: socket.socket, url: str) -> str:
    """The server of `url` after one that says nothing."""
    server = make_url(url)
    host, port = server.query.get("host") or server.host, server.port or 5432
    hosts = {"host": f"127.0.0.1,{host}", "port": f"{silent.getsockname()[1]},{port}"}
    return server.set(host=None, port=None, query=hosts).render_as_string(hide_password=False)


def _accepted(silent: socket.socket) -> int:
    number = 0
    while True:
        try:
            silent.accept()[0].close()
        except BlockingIOError:
            return number
        number += 1


@pytest.mark.slow
def test_a_frozen_primary_is_left_for_the_one_that_follows_it(
    start_service: MakeService, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 3600)  # we need not wait so long
    api = start_service(database_url=servers.url())
    pair = api.log_in()
    at_once(20, lambda _: api.me(pair["access_token"]))
    assert api.http.get(HEALTH).status_code == 200
    servers.catch_up()

    servers.primary.freeze()
    frozen = at_once(20, lambda _: api.me(pair["access_token"]))
    health = api.http.get(HEALTH).status_code
    servers.fail_over()

    assert {error_of(response) for response in frozen} == {(503, "unavailable")}
    assert health == 503
    assert {response.status_code for response in at_once(20, lambda _: api.me(pair["access_token"]))} == {200}
    assert api.http.get(HEALTH).status_code == 200
    assert api.register().status_code == 201
    assert api.refresh(pair["refresh_token"]).status_code == 200


def test_a_frozen_primary_that_thaws_is_used_again(start_service: MakeService, servers: Cluster) -> None:
    api = start_service(database_url=servers.url())
    token = api.log_in()["access_token"]

    servers.primary.freeze()
    response = api.me(token)
    servers.primary.thaw()

    assert error_of(response) == (503, "unavailable")
    eventually(lambda: api.me(token).status_code == 200)


def test_a_planned_switchover_costs_no_request_after_it(start_service: MakeService, servers: Cluster) -> None:
    api = start_service(database_url=servers.url())
    pair = api.log_in()
    at_once(8, lambda _: api.me(pair["access_token"]))
    old = servers.primary

    old.stop()
    servers.fail_over()
    old.rewind(servers.primary)

    assert {response.status_code for response in at_once(8, lambda _: api.me(pair["access_token"]))} == {200}
    assert api.refresh(pair["refresh_token"]).status_code == 200
    assert api.http.get(HEALTH).status_code == 200


def test_a_host_that_says_nothing_is_passed_over_once_that_is_known(
    start_service: MakeService, silent: socket.socket, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "_TURN_SECONDS", 3600)
    monkeypatch.setattr(hosts, "_FORGET_SECONDS", 3600)
    api = start_service(database_url=_behind(silent, database_url))
    token = api.log_in()["access_token"]
    assert _accepted(silent) > 0

    api.container.resources.requests.engine.dispose()
    calls = at_once(8, lambda _: api.me(token))

    assert {response.status_code for response in calls} == {200}
    assert _accepted(silent) == 0


@pytest.mark.slow
def test_a_start_a_migration_and_the_commands_go_past_a_frozen_host(
    start_process: StartProcess, servers: Cluster
) -> None:
    url = servers.url(servers.standby, servers.primary)
    servers.standby.freeze()

    started = start_process(url).serves()
    doctor = run_command(url, "doctor")

    assert started.register().status_code == 201
    assert "ok       writes       accepted" in doctor.stdout


def test_a_statement_that_only_waits_is_not_given_up(
    start_service: MakeService,
    fresh_database_url: str,
    fresh_database: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "_DOUBT_SECONDS", 0.05)
    api: Api = start_service(database_url=patient(fresh_database_url))
    asked: list[object] = []

    async def ask(server: Address) -> bool:
        asked.append(server)
        return await answers(server)

    monkeypatch.setattr(waiting, "answers", ask)
    with fresh_database.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        holder.execute(text("LOCK TABLE users"))
        with ThreadPoolExecutor(1) as threads:
            registration = threads.submit(api.register)
            eventually(lambda: len(asked) > 2)
            holder.rollback()

    assert registration.result().status_code == 201


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second address of this host")
@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "says nothing"])
def test_hosts_of_one_name_are_told_apart_by_their_addresses_and_asked_there(
    start_service: MakeService, servers: Cluster, monkeypatch: pytest.MonkeyPatch, *, silent: bool
) -> None:
    """The first of them refuses or says nothing."""
    port = servers.primary.port
    hosts = {"host": "db.invalid,db.invalid", "hostaddr": "127.0.0.2,127.0.0.1", "port": f"{port},{port}"}
    url = make_url(servers.primary.url).set(host=None, port=None, query=hosts)
    monkeypatch.setattr(waiting, "_DOUBT_SECONDS", 0.05)
    asked: list[Address] = []

    async def ask(server: Address) -> bool:
        asked.append(server)
        return await answers(server)

    with socket.create_server(("127.0.0.2", port)) if silent else nullcontext():
        api = start_service(database_url=patient(url.render_as_string(hide_password=False)))
        token = api.log_in()["access_token"]
    monkeypatch.setattr(waiting, "answers", ask)
    with closing(psycopg2.connect(servers.primary.url.replace("+psycopg2", ""))) as holder:
        holder.cursor().execute("LOCK TABLE users")
        with ThreadPoolExecutor(1) as threads:
            request = threads.submit(api.me, token)
            eventually(lambda: len(asked) > 2)
            holder.rollback()

    assert request.result().status_code == 200
    assert set(asked) == {Address("127.0.0.1", port)}


@pytest.mark.slow
def test_commits_without_their_standby_take_no_more_connections_and_leave_reads_alone(
    start_service: MakeService, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(engine, "POOL_TIMEOUT_SECONDS", 1)
    api = start_service(database_url=servers.url(servers.primary))
    pairs = [api.log_in() for _ in range(POOL_SIZE)]
    admin = Admin(api, primary := look_into(servers.primary.url))
    primary.dispose()
    sibling = Sibling(api)
    used = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kanban-auth'"

    def refresh(number: int) -> int:
        return api.refresh(pairs[number]["refresh_token"], f"attempt-of-session-{number}").status_code

    servers.synchronize()
    servers.standby.kill()
    assert at_once(2, lambda _: api.register().status_code) == [503] * 2
    for _ in range(3):
        assert set(at_once(POOL_SIZE, refresh)) == {503}
        assert servers.waiting_commits() == POOL_SIZE - BACKGROUND_CONNECTIONS - 1
        assert servers.primary.execute(used) <= POOL_SIZE
        assert {api.me(pair["access_token"]).status_code for pair in pairs} == {200}
        assert api.http.get(HEALTH).status_code == 200
        assert admin.call("GET", "?count=true").status_code == 200
        assert sibling.introspect(pairs[0]["access_token"]).json()["active"]
        assert sibling.page().status_code == 200
    servers.desynchronize()

    eventually(lambda: set(at_once(POOL_SIZE, refresh)) == {200})
    assert servers.waiting_commits() == 0
    eventually(lambda: api.metric("app_database_pool_in_use") == 0)


@pytest.mark.slow
def test_who_repeats_a_refresh_while_it_waits_for_a_standby_is_no_thief(
    start_service: MakeService, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 2)
    clock = MovableClock()
    api = start_service(clock=clock, database_url=servers.url(servers.primary))
    honest, thief = api.log_in(), api.log_in()
    begun, key = clock.now, "the-same-attempt-each-time"
    assert api.refresh(thief["refresh_token"], key).status_code == 200
    servers.synchronize()
    servers.standby.kill()

    for _ in range(3):
        assert api.refresh(honest["refresh_token"], key).status_code == 503
        clock.move(seconds=REPLAY_WINDOW.seconds)
    servers.desynchronize()

    assert clock.now - begun > 2 * REPLAY_WINDOW
    repeated = api.refresh(honest["refresh_token"], key)
    assert repeated.status_code == 200
    assert (
        repeated.json()["refresh_token"] == api.refresh(honest["refresh_token"], key).json()["refresh_token"]
    )
    assert error_of(api.refresh(thief["refresh_token"], key)) == (401, "refresh_token_reused")
    clock.move(seconds=1)
    assert error_of(api.refresh(honest["refresh_token"], key)) == (401, "refresh_token_reused")
