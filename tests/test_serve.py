"""The start in production: it waits, migrates, becomes the server, and ends without dropping anybody."""

import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.conftest import MakeDatabase, OwnServer, Start


def test_an_empty_database_is_migrated_by_whoever_comes_first(
    start: Start, make_database: MakeDatabase
) -> None:
    url = make_database()
    both = [start(url).serves() for start in (start, start)]

    assert {each.register().status_code for each in both} == {201}


def test_it_becomes_the_server_in_its_own_process(start: Start, database_url: str) -> None:
    started = start(database_url).serves()

    assert "uvicorn" in started.process.cmdline()
    assert started.process.children() == []
    assert "server" not in httpx.get(started.base_url + "/api/v1/health").headers


def test_without_migrations_the_schema_stays_as_it_is(start: Start, make_database: MakeDatabase) -> None:
    url = make_database()
    started = start(url, RUN_MIGRATIONS="false")
    started.wait_for(lambda: started.answers("/api/v1/health/live") == 200, "up")

    with create_engine(url).connect() as connection:
        assert connection.scalar(text("SELECT to_regclass('users')")) is None


def test_a_database_that_is_late_is_waited_for(start: Start, own_server: OwnServer) -> None:
    own_server.kill()
    started = start(own_server.url)
    started.wait_for(lambda: "database.waiting" in started.output, "waiting")
    own_server.start_again()

    assert started.serves().register().status_code == 201


def silent(listener: socket.socket) -> str:
    return f"postgresql://somebody:hidden-password@127.0.0.1:{listener.getsockname()[1]}/auth"


def test_a_database_that_never_comes_is_given_up_with_a_word(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = silent(listener)
    started = start(nowhere, DATABASE_WAIT_SECONDS="1")

    assert started.process.wait(30) == 1
    last = started.output.splitlines()[-1]
    assert re.fullmatch(r"No database at 127\.0\.0\.1:\d+ within 1 s: .*Connection refused", last)
    assert "hidden-password" not in started.output
    assert "Traceback" not in started.output


def test_a_database_that_accepts_and_says_nothing_is_given_up_too(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = start(silent(listener), DATABASE_WAIT_SECONDS="1")

        assert started.process.wait(30) == 1
    assert "within 1 s: the database does not answer" in started.output


def test_bad_settings_end_it_at_once_however_many_workers(start: Start) -> None:
    started = start("mysql://x", WEB_CONCURRENCY="2")

    assert started.process.wait(30) == 1
    assert started.output.splitlines() == [
        "The settings are not usable:",
        "DATABASE_URL: must begin with postgresql://",
    ]


def test_sigterm_ends_the_wait(start: Start, own_server: OwnServer) -> None:
    own_server.kill()
    started = start(own_server.url)
    started.wait_for(lambda: "database.waiting" in started.output, "waiting")

    started.process.terminate()

    assert started.process.wait(5) == 128 + signal.SIGTERM


def test_sigterm_ends_a_migration_that_waits_for_another(start: Start, make_database: MakeDatabase) -> None:
    url = make_database()
    engine = create_engine(url)
    with engine.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(6051220107)"))
        started = start(url)

        def is_queued() -> bool:
            return bool(other.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

        started.wait_for(is_queued, "waiting for the lock")
        started.process.terminate()

        assert started.process.wait(5) == 128 + signal.SIGTERM
    engine.dispose()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_drops_nobody_who_is_being_answered(start: Start, database_url: str, workers: str) -> None:
    started = start(database_url, WEB_CONCURRENCY=workers, BCRYPT_ROUNDS="10").serves()
    threads = ThreadPoolExecutor(20)
    answers = [threads.submit(started.register) for _ in range(20)]
    next(iter(answers)).result()

    started.process.terminate()

    assert {answer.result().status_code for answer in answers} == {201}
    assert started.process.wait(10) in (0, -signal.SIGTERM)
    assert started.answers() is None


def test_what_does_not_end_in_time_is_told_so(start: Start, database_url: str) -> None:
    """Rather than a connection that breaks."""
    options = ("--timeout-graceful-shutdown", "1")
    started = start(database_url, *options, BCRYPT_ROUNDS="14").serves()
    threads = ThreadPoolExecutor(10)
    answers = [threads.submit(started.register) for _ in range(10)]
    queue = "app_password_hash_queue"
    started.wait_for(lambda: f"{queue} 8.0" in httpx.get(started.base_url + "/metrics").text, "queued")

    started.process.terminate()

    statuses = [answer.result() for answer in answers]
    assert {status.status_code for status in statuses} <= {201, 503}
    assert 503 in {status.status_code for status in statuses}
    assert all("Retry-After" in each.headers for each in statuses if each.status_code == 503)


def test_the_workers_of_the_settings_are_started(start: Start, database_url: str) -> None:
    started = start(database_url, WEB_CONCURRENCY="3").serves()

    workers = [child for child in started.process.children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 3
