"""Failures of the database: killed, frozen, failed over, in conflict."""

import asyncio
import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import DBAPIError

from app.application import create_app
from app.database import engine as pools
from app.database import waiting
from app.database.engine import connect
from app.database.failures import sqlstate
from app.database.pool import EventLoopPool
from app.database.transactions import Database, retry_conflicts
from app.errors import DatabaseUnavailable
from app.greenlets import await_, run_in_greenlet
from tests.support import (
    HEALTH,
    LIVE,
    PATIENCE_SECONDS,
    Api,
    MakeDatabase,
    MakeService,
    OwnServer,
    at_once,
    error_of,
    eventually,
    make_settings,
    patient,
    serve,
)

PROBE = text("SELECT 1")


def refusal(message: str) -> bytes:
    """PostgreSQL's ErrorResponse."""
    fields = f"SFATAL\0VFATAL\0C53300\0M{message}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


def test_a_killed_database_is_503_and_comes_back_without_a_restart(
    start_service: MakeService, own_server: OwnServer
) -> None:
    api = start_service(database_url=own_server.url)
    pair = api.log_in()

    own_server.kill()
    calls = [
        api.me(pair["access_token"]),
        api.refresh(pair["refresh_token"]),
        api.token("ada@example.com"),
        api.register(),
        api.log_out(pair["access_token"]),
    ]
    health = api.http.get(HEALTH).status_code
    live = api.http.get(LIVE).status_code
    own_server.start_again()

    assert {error_of(call) for call in calls} == {(503, "unavailable")}
    assert (health, live) == (503, 200)
    assert api.http.get(HEALTH).status_code == 200
    assert api.me(pair["access_token"]).status_code == 200
    assert api.refresh(pair["refresh_token"]).status_code == 200


@pytest.mark.slow
def test_what_was_answered_survives_the_death_of_the_server(
    start_service: MakeService, own_server: OwnServer
) -> None:
    api = start_service(database_url=own_server.url)
    dead = threading.Event()
    enough = threading.Semaphore(0)
    answered: list[str] = []

    def register_until_death(index: int) -> None:
        if index == 0:
            for _ in range(20):
                enough.acquire()
            own_server.kill()
            dead.set()
            return
        while not dead.is_set():
            response = api.register()
            if response.status_code == 201:
                answered.append(response.json()["email"])
                enough.release()
            else:
                assert error_of(response) == (503, "unavailable")

    at_once(4, register_until_death)
    own_server.start_again()

    assert {api.token(email).status_code for email in answered} == {200}


def test_the_loss_of_every_pooled_connection_is_noticed_before_use(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    api = start_service(database_url=fresh_database_url)
    token = api.log_in()["access_token"]
    at_once(10, lambda _: api.me(token))

    with fresh_database.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'kanban-auth'"
            )
        )

    assert api.register().status_code == 201
    assert {response.status_code for response in at_once(10, lambda _: api.me(token))} == {200}


def test_a_server_that_became_a_standby_costs_the_whole_pool(database_url: str) -> None:
    db = Database(connect(database_url))
    with db.engine.connect() as one, db.engine.connect() as other:
        for connection in (one, other):
            connection.exec_driver_sql("SET default_transaction_read_only = on")

    with pytest.raises(DatabaseUnavailable):
        db.execute(text("DELETE FROM users WHERE false"))

    with db.engine.connect() as one, db.engine.connect() as other:
        for connection in (one, other):
            assert connection.exec_driver_sql("SHOW default_transaction_read_only").scalar_one() == "off"
    db.engine.dispose()


def test_a_server_that_accepts_and_says_nothing_is_given_up(
    start_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 3600)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = start_service(database_url=f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/auth")
        response = api.http.get(HEALTH)  # while the other still says nothing

    assert response.status_code == 503


def test_a_connection_to_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 3600)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        db = Database(connect(f"postgresql+psycopg2://u:p@127.0.0.1:{silent.getsockname()[1]}/auth"))
        hang_up = threading.Timer(PATIENCE_SECONDS, silent.close)
        hang_up.start()
        with pytest.raises(DatabaseUnavailable):
            db.execute(PROBE)
        assert hang_up.is_alive()  # it was ours to give up
        hang_up.cancel()
    db.engine.dispose()


@pytest.mark.parametrize("says", [b"", refusal("too many clients")], ids=["nothing", "no"])
def test_a_connection_that_failed_is_closed_before_garbage_is_collected(
    start_service: MakeService, says: bytes
) -> None:
    gc.disable()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            api = start_service(database_url=f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/auth")
            with ThreadPoolExecutor(1) as threads:
                health = threads.submit(api.http.get, HEALTH)
                for _ in range(2):  # the first is that of the start
                    with listener.accept()[0] as connection:
                        connection.settimeout(PATIENCE_SECONDS)
                        with suppress(ConnectionError):  # it was given up already
                            connection.sendall(says)
                        with suppress(ConnectionError):
                            while connection.recv(1000):
                                pass
                assert health.result().status_code == 503
    finally:
        gc.enable()


def test_a_frozen_server_is_given_up(
    start_service: MakeService, own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 0.5)
    api = start_service(database_url=own_server.url)
    pair = api.log_in()

    own_server.freeze()
    response = api.me(pair["access_token"])  # before the thaw
    own_server.thaw()

    assert error_of(response) == (503, "unavailable")
    assert api.me(pair["access_token"]).status_code == 200


def test_a_slow_statement_is_cancelled(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pools.SERVER_TIMEOUTS, "statement_timeout", "1s")
    db = Database(connect(database_url))

    with pytest.raises(DatabaseUnavailable) as caught:
        db.execute(text("SELECT pg_sleep(30)"))

    assert isinstance(caught.value.__cause__, DBAPIError)
    assert sqlstate(caught.value.__cause__) == "57014"
    db.engine.dispose()


def test_no_connection_free_is_503(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "POOL_TIMEOUT_SECONDS", 0.1)
    db = Database(connect(database_url, size=1))

    with db.engine.connect(), pytest.raises(DatabaseUnavailable):
        db.execute(PROBE)

    db.engine.dispose()


def test_who_waits_for_a_connection_gets_one_before_who_comes_later(database_url: str) -> None:
    engine = connect(database_url, size=1, pool=EventLoopPool)
    order = []

    def take(place: int, asks: asyncio.Event) -> None:
        asks.set()
        with engine.connect():
            order.append(place)

    async def come(place: int) -> asyncio.Task[None]:
        asks = asyncio.Event()
        task = asyncio.create_task(run_in_greenlet(take, place, asks))
        await asks.wait()
        return task

    def hold_and_come_again() -> None:
        with engine.connect():
            waiting = [await_(come(place)) for place in (1, 2, 3)]
        take(4, asyncio.Event())
        await_(asyncio.gather(*waiting))

    asyncio.run(run_in_greenlet(hold_and_come_again))
    engine.dispose()

    assert order == [1, 2, 3, 4]


def test_a_statement_is_committed_when_its_call_returns(database_url: str, engine: Engine) -> None:
    db = Database(connect(database_url))
    db.execute(text("CREATE TABLE committed (id int)"))

    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM committed")).scalar_one() == 0
        connection.execute(text("DROP TABLE committed"))
    db.engine.dispose()


def test_a_transaction_stands_or_falls_as_one(make_database: MakeDatabase) -> None:
    db = Database(connect(make_database()))
    db.execute(text("CREATE TABLE numbers (n int)"))

    def fall() -> None:
        with db.transaction() as connection:
            connection.execute(text("INSERT INTO numbers VALUES (1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fall()
    with db.transaction() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (2)"))
        connection.execute(text("INSERT INTO numbers VALUES (3)"))

    assert [row.n for row in db.execute(text("SELECT n FROM numbers"))] == [2, 3]
    db.engine.dispose()


def test_a_deadlock_is_tried_again(make_database: MakeDatabase) -> None:
    db = Database(connect(patient(make_database())))
    db.execute(text("CREATE TABLE accounts (id int, balance int)"))
    db.execute(text("INSERT INTO accounts VALUES (0, 0), (1, 0)"))
    both_hold_one = threading.Barrier(2)
    attempts = []

    @retry_conflicts
    def transfer(first: int) -> None:
        attempts.append(first)
        with db.transaction() as connection:
            for account in (first, 1 - first):
                add = text("UPDATE accounts SET balance = balance + 1 WHERE id = :id")
                connection.execute(add, {"id": account})
                if len(attempts) <= 2 and account == first:
                    both_hold_one.wait()

    at_once(2, transfer)

    assert len(attempts) > 2  # one fell; how often again, the machine decides
    assert [row.balance for row in db.execute(text("SELECT balance FROM accounts"))] == [2, 2]
    db.engine.dispose()


def test_a_conflict_that_stays_is_503_after_three_attempts() -> None:
    engine = create_engine("postgresql+psycopg2://")
    attempts = []

    class Conflict(Exception):
        pgcode = "40001"

    @retry_conflicts
    def work() -> None:
        attempts.append(engine)
        raise DBAPIError("SELECT", {}, Conflict())

    with pytest.raises(DatabaseUnavailable, match="Temporarily unavailable") as caught:
        work()

    assert len(attempts) == 3
    assert caught.value.reason == "Conflict 40001"


def test_options_in_the_url_are_kept(database_url: str) -> None:
    db = Database(connect(f"{database_url}&options=-c%20search_path%3Dpg_catalog"))

    assert db.execute(text("SHOW search_path"))[0][0] == "pg_catalog"
    assert db.execute(text("SHOW statement_timeout"))[0][0] == "5s"
    db.engine.dispose()


def test_a_burst_over_the_pool_is_served(api: Api) -> None:
    token = api.log_in()["access_token"]

    assert {response.status_code for response in at_once(80, lambda _: api.me(token))} == {200}


def test_a_locked_table_stops_neither_health_nor_the_queue(
    start_service: MakeService, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "POOL_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setitem(pools.SERVER_TIMEOUTS, "lock_timeout", "1s")
    api = start_service()
    pair = api.log_in()

    with engine.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        holder.execute(text("LOCK TABLE refresh_tokens"))
        responses = at_once(20, lambda n: api.refresh(pair["refresh_token"]) if n else api.http.get(HEALTH))
        holder.rollback()

    assert responses[0].status_code == 200
    assert {error_of(response) for response in responses[1:]} == {(503, "unavailable")}
    assert {int(response.headers["retry-after"]) > 0 for response in responses[1:]} == {True}


def test_an_application_serves_again_after_it_was_shut_down(database_url: str) -> None:
    app = create_app(make_settings(database_url=database_url))

    for _ in range(2):
        with serve(app) as base_url:
            api = Api(base_url, app)
            assert api.http.get(HEALTH).status_code == 200
            assert api.me(api.log_in()["access_token"]).status_code == 200
            api.close()


@pytest.mark.parametrize("moment", ["BEGIN", "INSERT INTO users", "COMMIT"])
def test_a_connection_that_breaks_within_a_transaction_is_503_and_costs_no_other_request(
    start_service: MakeService, engine: Engine, moment: str
) -> None:
    api = start_service()
    api.new_user()
    broken: list[Any] = []

    def break_connection(connection: Connection, _: object, statement: str, *__: object) -> None:
        if statement.startswith(moment) and not broken:
            driver: Any = connection.connection.driver_connection
            with engine.connect() as other:
                broken.append(
                    other.scalar(
                        text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": driver.info.backend_pid}
                    )
                )

    event.listen(api.container.resources.requests.engine, "before_cursor_execute", break_connection)
    response = api.register()

    assert broken == [True]
    assert error_of(response) == (503, "unavailable")
    assert [api.register().status_code for _ in range(3)] == [201] * 3
    eventually(lambda: api.metric("app_database_pool_in_use") == 0)


def test_a_connection_that_broke_unnoticed_costs_nobody_a_request(start_service: MakeService) -> None:
    api = start_service()
    idle: list[Any] = []
    event.listen(
        api.container.resources.requests.engine, "checkin", lambda connection, _: idle.append(connection)
    )
    token = api.log_in()["access_token"]
    idle[-1].close()  # as psycopg2 does after a failure

    assert api.me(token).status_code == 200


def test_a_transaction_costs_its_statements_begin_and_commit(start_service: MakeService) -> None:
    api = start_service()
    api.new_user()
    statements: list[str] = []
    watched = api.container.resources.requests.engine
    event.listen(watched, "before_cursor_execute", lambda *seen: statements.append(seen[2].split()[0]))

    assert api.register().status_code == 201

    assert statements == ["BEGIN", "INSERT", "INSERT", "COMMIT"]


def test_what_a_transaction_leads_to_happens_after_its_commit_and_never_without(
    make_database: MakeDatabase,
) -> None:
    db = Database(connect(make_database()))
    db.execute(text("CREATE TABLE numbers (n int)"))
    seen: list[int] = []

    def count() -> None:
        seen.append(len(db.execute(text("SELECT n FROM numbers"))))

    with db.transaction() as transaction:
        transaction.execute(text("INSERT INTO numbers VALUES (1)"))
        transaction.after_commit(count)
        assert seen == []
    with suppress(ZeroDivisionError), db.transaction() as transaction:
        transaction.after_commit(count)
        raise ZeroDivisionError

    assert seen == [1]
    db.engine.dispose()


def test_a_host_name_that_resolves_slowly_stops_no_other_request(
    start_service: MakeService, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = start_service()
    token = api.log_in()["access_token"]
    resolved, resolving = threading.Event(), threading.Event()
    connect_now = PGDialect_psycopg2.connect

    def resolve_first(*arguments: Any, **parameters: Any) -> Any:
        resolving.set()
        assert resolved.wait(PATIENCE_SECONDS)
        return connect_now(*arguments, **parameters)

    monkeypatch.setattr(PGDialect_psycopg2, "connect", resolve_first)
    with ThreadPoolExecutor(1) as threads:
        me = threads.submit(slow.me, token)
        assert resolving.wait(PATIENCE_SECONDS)
        live = slow.http.get(LIVE).status_code
        resolved.set()

        assert (live, me.result().status_code) == (200, 200)


def test_a_statement_that_is_cancelled_gives_its_connection_up(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    api = start_service(database_url=patient(fresh_database_url))
    assert api.http.get(HEALTH).status_code == 200
    backends = text(
        "SELECT array_agg(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'kanban-auth'"
    )

    with fresh_database.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        (before,) = holder.scalar(backends)
        holder.execute(text("LOCK TABLE alembic_version"))
        assert api.http.get(HEALTH).status_code == 503  # within its own time-out, and that is shorter
        holder.rollback()

    assert api.http.get(HEALTH).status_code == 200
    with fresh_database.connect() as connection:
        eventually(lambda: before not in connection.scalar(backends))  # it has to see that we are gone
