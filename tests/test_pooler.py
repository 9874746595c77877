"""Behind PgBouncer in transaction mode, which refuses or loses what carries our timeouts."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
import pytest
from alembic import command
from sqlalchemy import URL, Engine, TextClause, event, make_url, text

from app.database import connecting, waiting
from app.database.engine import connect
from app.database.failures import sqlstate
from app.database.transactions import Database
from app.database_settings import POOL_SIZE
from app.errors import DatabaseUnavailable
from app.resources import BACKGROUND_CONNECTIONS
from app.telemetry.logs import configure_logging
from tests.support import (
    HEALTH,
    PATIENCE_SECONDS,
    Api,
    Lines,
    MakeDatabase,
    MakeService,
    StartProcess,
    alembic_config,
    at_once,
    bearer,
    error_of,
    eventually,
    look_into,
    new_email,
    reserved_port,
)
from tests.support.clusters import Cluster
from tests.support.commands import run_command
from tests.support.mailboxes import Mailbox, sending
from tests.support.siblings import Sibling
from tests.support.smtp import SmtpServer

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed"),
]
FIRST = "16977e70efd2"
Pool = Callable[..., str]


def _as_whom(socket: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """It does not run as root; the owner of the server's socket may use it."""
    if os.geteuid() != 0:
        return ()
    return ("-u", Path(socket).owner() if isinstance(socket, str) else "nobody")


@contextmanager
def pgbouncer(folder: Path, server: URL, *settings: str) -> Iterator[int]:
    """The port of a pooler in transaction mode before this server, with two connections to it."""
    with reserved_port() as port:
        file, socket = folder / "pgbouncer.ini", server.query.get("host")
        own = "\n".join(settings)
        file.write_text(
            f"[databases]\n* = host={socket or server.host} port={server.port or 5432}"
            f" user={server.username}{f' password={server.password}' if server.password else ''}\n"
            f"[pgbouncer]\npool_mode = transaction\nauth_type = any\ndefault_pool_size = 2\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n{own}\n",
            encoding="utf-8",
        )
        assert PGBOUNCER is not None
        process = subprocess.Popen([PGBOUNCER, "-q", *_as_whom(socket), str(file)], stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The URL by which a database is reached through a pooler, of which there is one for its settings."""
    ports: dict[tuple[str, ...], int] = {}
    with ExitStack() as poolers:

        def pool(url: str, *settings: str) -> str:
            server = make_url(url)
            if settings not in ports:
                folder = tmp_path_factory.mktemp("pgbouncer")
                ports[settings] = poolers.enter_context(pgbouncer(folder, server, *settings))
            through = server.set(host="127.0.0.1", port=ports[settings], password="any", query={})

            def answers() -> bool:
                dsn = through.set(drivername="postgresql").render_as_string(hide_password=False)
                try:
                    psycopg2.connect(dsn).close()
                except psycopg2.OperationalError:
                    return False
                return True

            eventually(answers)
            return through.render_as_string(hide_password=False)

        yield pool


IGNORING = "ignore_startup_parameters = options"


@pytest.fixture(params=[(), (IGNORING,)], ids=["refuses", "ignores"])
def either(request: pytest.FixtureRequest, pooled: Pool) -> Pool:
    """A pooler that refuses our options, and one that loses them without a word."""
    return lambda url: pooled(url, *request.param)


def test_a_pooler_refuses_our_timeouts(pooled: Pool, database_url: str) -> None:
    url = make_url(pooled(database_url)).set(drivername="postgresql")

    with pytest.raises(psycopg2.OperationalError, match="unsupported startup parameter"):
        psycopg2.connect(
            url.render_as_string(hide_password=False), options="-c statement_timeout=5s -c lock_timeout=3s"
        )


@pytest.mark.slow
def test_behind_a_pooler_the_start_migrates_and_serves(
    start_process: StartProcess, make_database: MakeDatabase, pooled: Pool
) -> None:
    started = start_process(pooled(make_database()), WEB_CONCURRENCY="2").serves()

    assert started.register().status_code == 201
    assert "database.pooler" in started.output


def test_a_migration_that_no_setting_reaches_ends_with_a_word_of_the_direct_way(
    make_database: MakeDatabase, either: Pool
) -> None:
    """The role's own timeout cancels CREATE INDEX CONCURRENTLY, which waits for whoever writes meanwhile."""
    url = make_database()
    command.upgrade(alembic_config(url), FIRST)
    writer = look_into(url)

    with writer.connect() as connection:
        database = make_url(url).database
        connection.execute(text(f"ALTER DATABASE \"{database}\" SET statement_timeout = '300ms'"))
        connection.execute(text("BEGIN"))
        connection.execute(text("LOCK TABLE users IN ROW EXCLUSIVE MODE"))
        with pytest.raises(SystemExit, match=r"canceling statement.*DATABASE_DIRECT_URL"):
            command.upgrade(alembic_config(either(url)), "head")
        connection.execute(text("ROLLBACK"))
    command.upgrade(alembic_config(url), "head")

    with writer.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")) == 0
    writer.dispose()


def test_a_migration_through_a_pooler_with_one_connection_ends_with_a_word_of_the_direct_way(
    make_database: MakeDatabase, pooled: Pool
) -> None:
    url = pooled(make_database(), "default_pool_size = 1", "query_wait_timeout = 1")

    with pytest.raises(SystemExit, match=r"server closed.*two connections.*DATABASE_DIRECT_URL"):
        command.upgrade(alembic_config(url), "head")


def test_behind_a_pooler_the_service_does_what_it_does_without(
    start_service: MakeService, fresh_database_url: str, pooled: Pool, server: SmtpServer
) -> None:
    given = {"jwt_algorithm": "ES256", "throttles": True, "throttle_login_account": "2/1h"}
    urls = {"database_url": pooled(fresh_database_url), "database_direct_url": fresh_database_url}
    api = start_service(**urls, **given, **sending(server))
    email = new_email()
    assert api.register(email).status_code == 201
    pair = api.log_in(email)
    replaced = api.refresh(pair["refresh_token"]).json()
    token = replaced["access_token"]

    assert api.http.get(HEALTH).status_code == 200
    assert {response.status_code for response in at_once(24, lambda _: api.me(token))} == {200}
    assert api.http.get("/api/v1/me/sessions", headers=bearer(token)).status_code == 200
    assert api.http.post("/api/v1/password/forgot", json={"email": email}).status_code == 202
    Mailbox(server, email).next()
    with Sibling(api).stream() as stream:
        assert api.log_out(token).status_code == 204
        assert stream.next()[1]["sid"]
    assert api.me(token).status_code == 401
    assert [api.token(email, "another password").status_code for _ in range(3)] == [401, 401, 429]
    assert len(api.http.get("/.well-known/jwks.json").json()["keys"]) > 0
    assert api.operator.cleanup.prune() is not None


def test_a_pooler_is_noticed_once_by_a_process(
    either: Pool, database_url: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", lines)  # pytest has put its own back since the fixture did
    configure_logging(level="WARNING", json=True)
    connecting.warn_once.cache_clear()
    engines = [connect(either(database_url), size=2) for _ in range(2)]

    for engine in engines:
        with engine.connect(), engine.connect():
            pass
        engine.dispose()

    assert len(lines.events("database.pooler")) == 1


@pytest.mark.slow
def test_a_pooler_in_statement_mode_is_no_database_for_us(
    start_process: StartProcess, fresh_database_url: str, pooled: Pool
) -> None:
    url = pooled(fresh_database_url, "pool_mode = statement")
    migrating = start_process(url, DATABASE_WAIT_SECONDS="0")
    serving = start_process(url, RUN_MIGRATIONS="false")

    serving.wait_for(lambda: serving.answers() == 503, "unhealthy")
    doctor = run_command(url, "doctor")

    assert migrating.ends() == 1
    assert "No database at" in migrating.output
    for said in (migrating.output, serving.output, doctor.stdout):
        assert "the pooler refuses transactions, its pool_mode has to be transaction" in said
    assert serving.output.count("database.pooler") == 1


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
def test_behind_a_pooler_our_timeouts_hold(
    database_url: str, engine: Engine, either: Pool, limit: str
) -> None:
    url = f"{either(database_url)}?options=-c%20{limit}%3D100ms"
    db = Database(connect(url), direct=True)
    slow = text("SELECT pg_sleep(30)") if limit == "statement_timeout" else text("LOCK TABLE users")

    with engine.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        holder.execute(text("LOCK TABLE users"))
        failures = []
        for work in (_by_itself, _in_a_transaction):
            with pytest.raises(DatabaseUnavailable) as caught:
                work(db, slow)
            assert caught.value.__cause__ is not None
            failures.append(sqlstate(caught.value.__cause__))
        holder.rollback()

    assert failures == [{"statement_timeout": "57014", "lock_timeout": "55P03"}[limit]] * 2
    db.engine.dispose()


@pytest.mark.parametrize("way", ["direct", "pooled"])
def test_options_are_read_as_the_server_reads_them(database_url: str, either: Pool, way: str) -> None:
    options = r"-c work_mem=5MB --search-path=a,b -cour.name=it's\ 5%,\\not\ 4"
    url = make_url(database_url if way == "direct" else either(database_url))
    given = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    db = Database(connect(given))
    show = text("SELECT current_setting(:name)")

    found = [db.execute(show, {"name": name})[0][0] for name in ("work_mem", "our.name", "search_path")]

    assert found[:2] == ["5MB", "it's 5%,\\not 4"]
    assert found[2].replace('"', "").replace(" ", "") == "a,b"
    db.engine.dispose()


def _by_itself(db: Database, statement: TextClause) -> None:
    if "LOCK" in statement.text:
        statement = text("SELECT FROM users FOR UPDATE")
    db.execute(statement)


def _in_a_transaction(db: Database, statement: TextClause) -> None:
    with db.transaction() as transaction:
        transaction.execute(text("SELECT 1"))
        transaction.execute(statement)


def test_what_a_transaction_was_told_does_not_stay_at_the_pooler(database_url: str, pooled: Pool) -> None:
    url = pooled(database_url)
    ours, others = Database(connect(url)), look_into(url)

    within = ours.execute(text("SHOW statement_timeout"))[0][0]
    with ours.transaction() as transaction:
        begun = transaction.execute(text("SHOW lock_timeout"))[0][0]
    with others.connect() as connection:
        left = [connection.scalar(text(f"SHOW {name}")) for name in ("statement_timeout", "lock_timeout")]

    assert (within, begun) == ("5s", "3s")
    assert left == ["0", "0"]
    for each in (ours.engine, others):
        each.dispose()


def test_behind_a_pooler_a_transaction_costs_no_message_more(database_url: str, pooled: Pool) -> None:
    db = Database(connect(pooled(database_url)))
    sent: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *seen: sent.append(seen[2]))

    with db.transaction() as transaction:
        transaction.execute(text("SELECT 1"))
    db.execute(text("SELECT 2"))

    assert sent == ["BEGIN", "SELECT 1", "COMMIT", "SELECT 2"]
    db.engine.dispose()


def test_without_a_direct_way_streams_are_polled_and_nobody_listens_at_the_pooler(
    start_service: MakeService,
    fresh_database_url: str,
    pooled: Pool,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", lines)
    api = start_service(database_url=pooled(fresh_database_url), log_level="WARNING", log_format="json")
    pair = api.log_in()

    with Sibling(api).stream() as stream:
        eventually(lambda: lines.events("revocations.polling"))
        assert api.log_out(pair["access_token"]).status_code == 204
        assert stream.next()[1]["sid"]

    (said,) = lines.events("revocations.polling")
    assert "DATABASE_DIRECT_URL" in said["reason"]


def test_with_a_direct_way_migrations_and_streams_go_past_the_pooler(
    start_service: MakeService, fresh_database_url: str, pooled: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.delivery.hub._POLL_SECONDS", 3600)
    url = pooled(fresh_database_url)
    api = start_service(database_url=url, database_direct_url=fresh_database_url)
    pair, follower = api.log_in(), look_into(fresh_database_url)
    listeners = text(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    )

    with Sibling(api).stream() as stream, follower.connect() as looking:
        eventually(lambda: looking.scalar(listeners))
        assert api.log_out(pair["access_token"]).status_code == 204
        assert stream.next()[1]["sid"]  # as it was notified

    assert make_url(api.container.settings.migration_url) == make_url(fresh_database_url)
    follower.dispose()


def test_behind_a_pooler_the_doctor_finds_our_timeouts_and_says_whose_limits_count(
    database_url: str, either: Pool
) -> None:
    result = run_command(either(database_url), "doctor")

    found = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert found["timeouts"].startswith("ok")
    assert "the pooler's" in found["connections"]


@pytest.fixture
def behind_its_own(
    start_service: MakeService, servers: Cluster, pooled: Pool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Api]:
    """A service whose pooler has a primary of the test's own, which waits for a standby."""
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr("app.database.engine.POOL_TIMEOUT_SECONDS", 1)
    api = start_service(database_url=pooled(servers.url(servers.primary), "default_pool_size = 20"))
    servers.synchronize()
    yield api
    servers.desynchronize()
    eventually(lambda: api.register().status_code == 201)


@pytest.mark.slow
def test_commits_without_their_standby_take_no_more_of_the_poolers_connections(
    behind_its_own: Api, servers: Cluster
) -> None:
    token = behind_its_own.log_in()["access_token"]
    servers.standby.kill()

    for _ in range(3):
        answers = at_once(POOL_SIZE, lambda _: behind_its_own.register())
        assert {error_of(answer) for answer in answers} == {(503, "unavailable")}
        assert servers.waiting_commits() == POOL_SIZE - BACKGROUND_CONNECTIONS - 1
        assert behind_its_own.me(token).status_code == 200


@pytest.mark.slow
def test_a_pooler_whose_server_answers_nobody_keeps_no_connection_for_ever(
    behind_its_own: Api, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.pool.POOLER_SECONDS", 0)
    servers.standby.kill()

    assert error_of(behind_its_own.register()) == (503, "unavailable")
    at_once(20, lambda _: behind_its_own.http.get(HEALTH))
    assert behind_its_own.metric("app_database_pool_in_use") >= 1
    servers.primary.freeze()
    eventually(lambda: behind_its_own.metric("app_database_pool_in_use") == 0)
    servers.primary.thaw()

    assert servers.waiting_commits() == 1
