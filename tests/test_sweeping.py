"""A sweep costs as much as there is to delete, however much there is beside it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, TextClause, text

from app.container import Container
from app.services.operations import cleanup, sweeping
from tests.support import MakeDatabase, MovableClock, look_into, make_settings
from tests.support.blocks import blocks_read

INTERVAL = 60
_SESSIONS = text(
    "INSERT INTO refresh_tokens (id, user_id, token_id, created_at, expires_at)"
    " SELECT gen_random_uuid(), 1, gen_random_uuid(), :now, :end FROM generate_series(1, :number)"
)
_TOKENS = text(
    "INSERT INTO one_time_tokens (token_hash, user_id, purpose, email, created_at, expires_at)"
    " SELECT sha256(number::text::bytea), 1, 'email_restore', number, :now, :end"
    " FROM generate_series(1, :number) AS number"
)
_THROTTLES = text(
    "INSERT INTO throttles SELECT sha256(number::text::bytea), :end"
    " FROM generate_series(1, :number) AS number"
)
_FAILURES = text(
    "INSERT INTO consecutive_failures SELECT sha256(number::text::bytea), 1, 1, :now"
    " FROM generate_series(1, :number) AS number"
)
_EVENTS = text(
    "INSERT INTO audit_events (at, event, details)"
    " SELECT :now, 'user.deleted', '{\"addresses_erased\": true}' FROM generate_series(1, :number)"
)
_REVOCATIONS = text(
    "INSERT INTO revocations (user_id, reason, expires_at)"
    " SELECT 1, 'x', :end FROM generate_series(1, :number)"
)
_MAILS = text(
    "INSERT INTO outbox_messages"
    " (id, kind, recipient, subject, created_at, next_attempt_at, attempts, state, finished_at)"
    " SELECT gen_random_uuid(), 'x', 'x', 'x', :now, :now, 1, 'sent', :now FROM generate_series(1, :number)"
)
_ALL = (_SESSIONS, _TOKENS, _THROTTLES, _FAILURES, _EVENTS, _REVOCATIONS, _MAILS)
_USER = text(
    "INSERT INTO users (id, email, created_at) OVERRIDING SYSTEM VALUE VALUES (1, 'ada', now())"
    " ON CONFLICT DO NOTHING"
)


@pytest.fixture(autouse=True)
def _small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few rows make a table big."""
    monkeypatch.setattr(sweeping, "STRETCH", 4)
    monkeypatch.setattr(sweeping, "BARREN_STRETCHES", 4)
    monkeypatch.setattr(cleanup, "BLOCKS_COUNTED", 40)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


def fill(engine: Engine, statement: TextClause, number: int, clock: MovableClock, *, days: int = 7) -> None:
    """With rows that are due in so many days."""
    now = clock()
    with engine.connect() as connection:
        connection.execute(_USER)
        connection.execute(statement, {"now": now, "end": now + timedelta(days=days), "number": number})
        connection.execute(text("ANALYZE"))  # autovacuum is off


@pytest.fixture
def worker(fresh_database_url: str, clock: MovableClock) -> Iterator[Container]:
    container = make_worker(fresh_database_url, clock)
    yield container
    container.close()


def make_worker(url: str, clock: MovableClock) -> Container:
    return Container(make_settings(database_url=url, cleanup_interval_seconds=INTERVAL), clock)


def left(engine: Engine, table: str = "refresh_tokens") -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def live(worker: Container) -> float:
    return float(worker.metrics.sessions.live._value.get())


def test_a_sweep_reads_no_more_where_four_times_as_much_is_not_due(
    make_database: MakeDatabase, clock: MovableClock
) -> None:
    blocks = []
    for number in (5_000, 20_000):
        engine = look_into(make_database(migrated=True))
        for statement in _ALL:
            fill(engine, statement, number, clock)
        worker = make_worker(engine.url.render_as_string(hide_password=False), clock)
        blocks.append(blocks_read(engine, worker, worker.cleanup.sweep))
        engine.dispose()

    assert blocks[1] < 1.5 * blocks[0]


def test_sweep_by_sweep_the_whole_table_is_looked_at(
    worker: Container, fresh_database: Engine, clock: MovableClock
) -> None:
    fill(fresh_database, _SESSIONS, 5_000, clock)
    fill(fresh_database, _SESSIONS, 3, clock, days=0)
    sweeps = 0

    while left(fresh_database) > 5_000 and sweeps < 20:
        worker.cleanup.sweep()
        clock.move(seconds=INTERVAL)
        sweeps += 1

    assert left(fresh_database) == 5_000
    assert sweeps > 2


def test_a_sweep_goes_on_for_as_long_as_it_finds_what_is_due(
    worker: Container, fresh_database: Engine, clock: MovableClock
) -> None:
    fill(fresh_database, _SESSIONS, 5_000, clock, days=0)

    assert worker.cleanup.sweep() == (5_000, 0)
    assert left(fresh_database) == 0


def test_of_many_workers_one_sweeps_in_a_minute(
    worker: Container, fresh_database_url: str, fresh_database: Engine, clock: MovableClock
) -> None:
    another = make_worker(fresh_database_url, clock)
    worker.cleanup.sweep()
    fill(fresh_database, _SESSIONS, 1, clock, days=0)

    clock.move(seconds=INTERVAL - 1)
    assert another.cleanup.sweep() == (0, 0)
    clock.move(seconds=1)
    assert another.cleanup.sweep() == (1, 0)
    another.close()


def test_a_clock_that_was_ahead_keeps_nobody_from_sweeping(
    worker: Container, fresh_database: Engine, clock: MovableClock
) -> None:
    clock.move(days=1)
    worker.cleanup.sweep()
    clock.move(days=-1)
    fill(fresh_database, _SESSIONS, 1, clock, days=0)

    assert worker.cleanup.sweep() == (1, 0)


def test_live_sessions_are_counted_if_few_and_estimated_if_many(
    worker: Container, fresh_database: Engine, clock: MovableClock
) -> None:
    fill(fresh_database, _SESSIONS, 700, clock)
    worker.cleanup.sweep()
    assert live(worker) == 700

    fill(fresh_database, _SESSIONS, 19_300, clock)
    worker.cleanup.sweep()
    assert live(worker) == pytest.approx(20_000, rel=0.3)


def test_the_command_deletes_all_at_once(
    worker: Container, fresh_database: Engine, clock: MovableClock
) -> None:
    fill(fresh_database, _SESSIONS, 5_000, clock)
    fill(fresh_database, _SESSIONS, 3, clock, days=0)

    assert worker.cleanup.prune() == (3, 0)
