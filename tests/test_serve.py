"""The start in production: it waits, migrates, becomes the server, and ends without dropping anybody."""

import json
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from alembic import command
from psycopg2.extensions import make_dsn
from sqlalchemy import Engine, create_engine, make_url, text

from app.serve import GRACE_SECONDS
from tests.support import (
    HEALTH,
    LIVE,
    NOWHERE,
    Api,
    MakeDatabase,
    OwnServer,
    Started,
    StartProcess,
    alembic_config,
    browser,
    eventually,
    look_into,
    reserved_port,
    until_blocked,
)
from tests.support.siblings import Sibling

pytestmark = pytest.mark.process


@pytest.mark.slow
def test_an_empty_database_is_migrated_by_whoever_comes_first(
    start_process: StartProcess, make_database: MakeDatabase
) -> None:
    url = make_database()
    both = [start_process(url), start_process(url)]

    assert {each.serves().register().status_code for each in both} == {201}


def test_the_start_becomes_the_server_in_its_own_process(served: Started) -> None:
    command = served.process.cmdline()
    assert "app.server" in command
    assert command[command.index("--timeout-graceful-shutdown") + 1] == str(GRACE_SECONDS)
    assert served.process.children() == []


def test_the_server_does_not_say_what_it_is(served: Started) -> None:
    assert "server" not in served.get(HEALTH).headers


@pytest.mark.slow
def test_without_migrations_the_schema_stays_as_it_is(
    start_process: StartProcess, make_database: MakeDatabase
) -> None:
    url = make_database()
    started = start_process(url, RUN_MIGRATIONS="false")
    started.wait_for(lambda: started.answers(LIVE) == 200, "up")

    with create_engine(url).connect() as connection:
        assert connection.scalar(text("SELECT to_regclass('users')")) is None


@pytest.mark.slow
def test_a_database_that_is_late_is_waited_for(start_process: StartProcess, own_server: OwnServer) -> None:
    own_server.kill()
    started = start_process(own_server.url, DATABASE_WAIT_SECONDS="3600")
    started.wait_for(lambda: "database.waiting" in started.output, "waiting")
    own_server.start_again()

    assert started.serves().register().status_code == 201


def silent(listener: socket.socket) -> str:
    return f"postgresql://somebody:hidden-password@127.0.0.1:{listener.getsockname()[1]}/auth"


def test_a_database_that_never_comes_is_given_up_with_a_word(start_process: StartProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = silent(listener)
    started = start_process(nowhere, DATABASE_WAIT_SECONDS="1")

    assert started.ends() == 1
    last = started.output.splitlines()[-1]
    assert re.fullmatch(r"No database at 127\.0\.0\.1:\d+ within 1 s: .*Connection refused", last)
    assert "hidden-password" not in started.output
    assert "Traceback" not in started.output


@pytest.mark.slow
def test_a_database_that_accepts_and_says_nothing_is_given_up_with_a_word(
    start_process: StartProcess,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = start_process(silent(listener), DATABASE_WAIT_SECONDS="1")

        assert started.ends() == 1
    assert re.search(r"within 1 s: the database at 127\.0\.0\.1:\d+ does not answer", started.output)


@pytest.mark.slow
def test_a_host_that_is_silent_or_refuses_leaves_the_others(
    start_process: StartProcess, make_database: MakeDatabase
) -> None:
    """The first hosts of DATABASE_URL are those that failed, which a failover leaves as they are."""
    url = make_url(make_database())
    there = url.get_dialect()().create_connect_args(url)[1]
    with socket.create_server(("127.0.0.1", 0)) as listener, reserved_port() as refusing:
        hosts = f"127.0.0.1,127.0.0.1,{there.pop('host')}"
        ports = f"{listener.getsockname()[1]},{refusing},{there.pop('port', '')}"
        dsn = make_dsn(**there, host=hosts, port=ports, target_session_attrs="read-write")
        started = start_process(dsn)

        assert started.serves().register().status_code == 201


@pytest.mark.slow
def test_bad_settings_end_the_start_at_once_however_many_workers(start_process: StartProcess) -> None:
    started = start_process("mysql://x", WEB_CONCURRENCY="2")

    assert started.ends() == 1
    assert started.output.splitlines() == [
        "The settings are not usable:",
        "DATABASE_URL: must begin with postgresql://",
    ]


@pytest.mark.slow
def test_a_broken_mail_template_ends_the_start_at_once_however_many_workers(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "invitation.txt").write_text("Subject: x\n\n{{ lnk }}", encoding="utf-8")
    started = start_process(NOWHERE, WEB_CONCURRENCY="2", MAIL_TEMPLATES=str(tmp_path))

    assert started.ends() == 1
    assert started.output.splitlines() == [
        "The settings are not usable:",
        "MAIL_TEMPLATES: de/invitation.txt: 'lnk' is undefined (line 3)",
    ]


@pytest.mark.slow
def test_settings_of_another_project_are_one_line_of_the_log(start_process: StartProcess) -> None:
    foreign = {"ALGORITHM": "HS512", "JWT_SECRET_KEY": "hidden", "ALLOWED_ORIGINS": ""}
    started = start_process(NOWHERE, DATABASE_WAIT_SECONDS="0", WEB_CONCURRENCY="2", **foreign)

    assert started.ends() == 1
    (line,) = [json.loads(line) for line in started.output.splitlines() if "settings.foreign" in line]
    assert line["ours"] == {"ALGORITHM": "JWT_ALGORITHM", "JWT_SECRET_KEY": "JWT_SECRET"}
    assert "hidden" not in started.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_wait_for_a_database_without_a_traceback(
    start_process: StartProcess, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = silent(listener)
    started = start_process(nowhere, DATABASE_WAIT_SECONDS="3600")
    started.wait_for(lambda: "database.waiting" in started.output, "waiting")

    started.process.send_signal(number)

    assert started.ends() == 128 + number
    assert "Traceback" not in started.output


class Held:
    """A start that stands still where it imports a module, until it is let go."""

    def __init__(self, start: StartProcess, url: str, folder: Path, module: str, **settings: str) -> None:
        self._door = folder / "door"
        os.mkfifo(self._door)
        (folder / f"{module}.py").write_text(
            f"import sys\nopen({str(self._door)!r}).read()\n"
            f"sys.path.remove({str(folder)!r})\ndel sys.modules[{module!r}]\nimport {module}\n",
            encoding="utf-8",
        )
        self.started = start(url, PYTHONPATH=str(folder), **settings)
        writer = eventually(self._reached)
        assert writer is not None
        self._writer = writer

    def _reached(self) -> int | None:
        with suppress(OSError):  # nobody reads yet
            return os.open(self._door, os.O_WRONLY | os.O_NONBLOCK)
        return None

    def let_go(self) -> None:
        os.close(self._writer)


def test_a_signal_is_heard_while_the_start_is_imported(start_process: StartProcess, tmp_path: Path) -> None:
    """Process 1 would lose it, where nothing has been done for it yet."""
    held = Held(start_process, NOWHERE, tmp_path, "psycopg2")

    held.started.process.terminate()
    held.let_go()  # a signal does not wake what is just about to read

    assert held.started.ends() == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_is_heard_while_the_server_takes_the_place_of_the_start(
    start_process: StartProcess, database_url: str, tmp_path: Path, workers: str
) -> None:
    held = Held(start_process, database_url, tmp_path, "uvicorn", WEB_CONCURRENCY=workers)

    held.started.process.terminate()
    held.let_go()

    assert held.started.ends() in (0, -signal.SIGTERM)
    assert re.search("(Finished server|Stopping parent) process", held.started.output)


@pytest.mark.slow
def test_a_replica_is_ready_once_somebody_else_has_migrated_and_needs_no_restart(
    start_process: StartProcess, make_database: MakeDatabase
) -> None:
    """Kubernetes starts both at once: docs/kubernetes.md."""
    url = make_database()
    started = start_process(url, RUN_MIGRATIONS="false")
    started.wait_for(lambda: started.answers(LIVE) == 200, "alive")
    assert started.answers(HEALTH) == 503

    no_place = {"WEB_CONCURRENCY": "2", "PROMETHEUS_MULTIPROC_DIR": "/proc/nowhere"}  # a migration needs none
    assert start_process(url, "--migrate-only", RUN_MIGRATIONS="false", **no_place).ends() == 0

    assert started.serves().register().status_code == 201


def test_a_migration_of_an_older_release_leaves_a_newer_schema_as_it_is(
    start_process: StartProcess, fresh_database_url: str, fresh_database: Engine
) -> None:
    with fresh_database.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of tomorrow'"))
    migration = start_process(fresh_database_url, "--migrate-only")

    assert migration.ends() == 0
    assert "migration.skipped" in migration.output


def test_sigterm_ends_a_migration_that_waits_for_another(
    start_process: StartProcess, make_database: MakeDatabase
) -> None:
    url = make_database()
    engine = create_engine(url)
    with engine.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(6051220107)"))
        started = start_process(url)
        started.wait_for(lambda: "migration.waiting" in started.output, "waiting")
        started.process.terminate()

        assert started.ends() == 128 + signal.SIGTERM  # while the lock is not given up
    engine.dispose()


@pytest.mark.slow
def test_sigterm_ends_a_migration_in_the_middle_of_a_statement_without_a_traceback(
    start_process: StartProcess, make_database: MakeDatabase
) -> None:
    url = make_database()
    command.upgrade(alembic_config(url), "16977e70efd2")  # the next one makes indexes of users
    engine, watcher = create_engine(url), look_into(url)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as other:
        other.execute(text("SELECT count(*) FROM users"))  # CREATE INDEX waits for its end
        started = start_process(url)
        until_blocked(watcher)

        started.process.terminate()

        assert started.ends() == 128 + signal.SIGTERM
    assert "Traceback" not in started.output
    for each in (watcher, engine):
        each.dispose()


def arrived(started: Started, path: str) -> int:
    """The number of requests for a path that the server has answered or is about to answer."""
    scraped = started.get("/metrics").text
    answered = re.findall(rf'(?m)^http_request_duration_seconds_count{{.*"{path}".*}} (.*)$', scraped)
    (in_progress,) = re.findall(r"(?m)^http_requests_in_progress (.*)$", scraped)
    return int(sum(map(float, answered)) + float(in_progress) - 1)  # the scrape itself


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_drops_nobody_who_is_being_answered_and_ends_the_streams(
    api: Api, start_process: StartProcess, database_url: str, workers: str
) -> None:
    patience = ("--timeout-graceful-shutdown", "120")  # a busy machine is no reason to drop somebody
    started = start_process(database_url, *patience, WEB_CONCURRENCY=workers).serves()
    with (
        ThreadPoolExecutor(20) as threads,
        browser(started.base_url) as client,
        Sibling(api).stream(of=client) as stream,
    ):
        answers = [threads.submit(started.register) for _ in range(20)]
        eventually(lambda: arrived(started, "/api/v1/users/") == 21)  # with the stream

        started.process.terminate()

        assert stream.ends()
        assert {answer.result().status_code for answer in answers} == {201}
    assert started.ends() in (0, -signal.SIGTERM)
    assert started.answers() is None


@pytest.mark.slow
def test_a_request_that_does_not_end_in_time_is_told_so(
    start_process: StartProcess, database_url: str
) -> None:
    """Rather than a connection that breaks."""
    options = ("--timeout-graceful-shutdown", "1")
    started = start_process(database_url, *options, BCRYPT_ROUNDS="13").serves()
    number = 6 * (os.cpu_count() or 1)
    with ThreadPoolExecutor(number) as threads:
        answers = [threads.submit(started.register) for _ in range(number)]
        eventually(lambda: arrived(started, "/api/v1/users/") == number)

        started.process.terminate()

        statuses = [answer.result() for answer in answers]
    assert {status.status_code for status in statuses} <= {201, 503}
    assert 503 in {status.status_code for status in statuses}
    assert all("Retry-After" in each.headers for each in statuses if each.status_code == 503)


def test_so_many_workers_are_started_as_the_settings_say(two_workers: Started) -> None:
    assert len(two_workers.workers()) == 2


@pytest.mark.slow
def test_a_worker_that_says_nothing_holds_up_neither_replacements_nor_sigterm(
    start_process: StartProcess, database_url: str
) -> None:
    waits_for_it = ("--timeout-worker-healthcheck", "3600")
    started = start_process(database_url, *waits_for_it, WEB_CONCURRENCY="2").serves()
    silent, killed = started.workers()
    silent.suspend()
    killed.kill()
    started.wait_for_replacement(killed)
    silent.kill()
    started.wait_for_replacement(silent)
    silent, _ = started.serves().workers()
    silent.suspend()
    started.process.terminate()
    started.wait_for(lambda: started.workers() == [silent], "stopping")
    silent.resume()

    assert started.ends() == 0


@pytest.mark.slow
def test_a_worker_that_says_nothing_for_too_long_is_replaced(
    start_process: StartProcess, database_url: str
) -> None:
    started = start_process(database_url, "--timeout-worker-healthcheck", "15", WEB_CONCURRENCY="2").serves()
    silent, other = started.workers()

    silent.suspend()

    started.wait_for_replacement(silent)
    assert other in started.workers()
    started.serves()


@pytest.mark.slow
@pytest.mark.parametrize(
    "foreign",
    [
        "UPDATE alembic_version SET version_num = 'unknown'",
        "ALTER TABLE alembic_version RENAME version_num TO anything",
    ],
)
def test_a_database_of_another_project_ends_the_start_with_one_line(
    start_process: StartProcess, fresh_database_url: str, fresh_database: Engine, foreign: str
) -> None:
    with fresh_database.connect() as connection:
        connection.execute(text(foreign))
        connection.execute(text("DROP TABLE users CASCADE"))
    started = start_process(fresh_database_url)

    assert started.ends() == 1
    (line,) = started.output.splitlines()
    assert re.fullmatch(
        r"The database is not usable: the schema at unknown lacks users\.\w+, .*; is it another project's\?",
        line,
    )


@pytest.mark.slow
def test_the_schema_of_a_newer_release_is_left_as_it_is(
    start_process: StartProcess, fresh_database_url: str, fresh_database: Engine
) -> None:
    with fresh_database.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    started = start_process(fresh_database_url).serves()

    assert "migration.skipped" in started.output
    with fresh_database.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "newer"
