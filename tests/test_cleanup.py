"""Ended sessions are deleted in small batches, by one process at a time, and never while they are locked."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.services.operations import cleanup, erasure, sweeping
from app.services.operations.sweeping import Sweeper
from tests.support import (
    PASSWORD,
    Api,
    MakeService,
    MovableClock,
    bearer,
    error_of,
    eventually,
    metric_of,
)
from tests.support.accounts import Admin, register

DAYS = 30


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def api(start_service: MakeService, fresh_database_url: str, clock: MovableClock) -> Api:
    return start_service(database_url=fresh_database_url, clock=clock)


def prune(api: Api) -> int | None:
    """The number of sessions."""
    result = api.operator.cleanup.prune()
    return None if result is None else result.sessions


def left(fresh_database: Engine) -> int:
    with fresh_database.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM refresh_tokens")).scalar_one())


def test_a_session_past_its_end_goes_and_its_token_stays_invalid(
    api: Api, clock: MovableClock, fresh_database: Engine
) -> None:
    email = api.new_user()
    over = api.log_in(email)
    clock.move(days=4)
    live = api.log_in(email)
    clock.move(days=4)

    assert prune(api) == 1

    assert left(fresh_database) == 1
    assert error_of(api.refresh(over["refresh_token"])) == (401, "invalid_refresh_token")
    assert api.refresh(live["refresh_token"]).status_code == 200
    assert metric_of(api.operator, "app_sessions_purged_total") == 1
    assert metric_of(api.operator, "app_sessions_live") == 1


def test_an_ended_session_stays_for_its_retention(
    start_service: MakeService, fresh_database_url: str, clock: MovableClock, fresh_database: Engine
) -> None:
    api = start_service(
        database_url=fresh_database_url, clock=clock, refresh_token_expire_days=365, session_max_days=365
    )
    api.log_out(api.log_in()["access_token"])

    clock.move(days=DAYS, seconds=-1)
    assert prune(api) == 0
    clock.move(seconds=1)
    assert prune(api) == 1
    assert left(fresh_database) == 0


def test_pruning_goes_in_batches_until_nothing_is_left(
    api: Api, fresh_database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.log_in()
    with fresh_database.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO refresh_tokens (id, user_id, token_id, created_at, expires_at)"
                " SELECT gen_random_uuid(), user_id, token_id, created_at, created_at - interval '1 day'"
                " FROM refresh_tokens, generate_series(1, :number)"
            ),
            {"number": 2 * sweeping.BATCH_SIZE + 7},
        )
    batches: list[int | None] = []
    original = Sweeper._batch

    def delete_batch(self: Sweeper, statement: Any, parameters: Any) -> int | None:
        number = original(self, statement, parameters)
        if statement is cleanup._SESSIONS.statement:
            batches.append(number)
        return number

    monkeypatch.setattr(Sweeper, "_batch", delete_batch)

    assert prune(api) == 2 * sweeping.BATCH_SIZE + 7
    assert batches == [sweeping.BATCH_SIZE, sweeping.BATCH_SIZE, 7]
    assert left(fresh_database) == 1


def test_pruning_leaves_a_locked_row_alone(api: Api, clock: MovableClock, fresh_database: Engine) -> None:
    email = api.new_user()
    for _ in range(3):
        api.log_in(email)
    clock.move(days=8)

    with fresh_database.execution_options(isolation_level="READ COMMITTED").connect() as other:
        other.execute(text("SELECT id FROM refresh_tokens LIMIT 1 FOR UPDATE"))
        assert prune(api) == 2
    assert prune(api) == 1
    assert left(fresh_database) == 0


def test_one_process_prunes_at_a_time(api: Api, clock: MovableClock, fresh_database: Engine) -> None:
    api.log_in()
    clock.move(days=8)

    with fresh_database.execution_options(isolation_level="READ COMMITTED").connect() as other:
        other.execute(text(f"SELECT pg_advisory_xact_lock({sweeping.ADVISORY_LOCK})"))
        assert prune(api) is None
        assert left(fresh_database) == 1
    assert prune(api) == 1


def test_four_that_prune_at_once_delete_each_row_once(api: Api, clock: MovableClock) -> None:
    email = api.new_user()
    for _ in range(20):
        api.log_in(email)
    clock.move(days=8)
    assert api.operator.cleanup  # made once, as the threads could each make their own

    with ThreadPoolExecutor(4) as threads:
        pruned = [threads.submit(prune, api) for _ in range(4)]

    assert sum(each.result() or 0 for each in pruned) == 20
    assert metric_of(api.operator, "app_sessions_purged_total") == 20


def test_the_service_prunes_by_itself(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    start_service(database_url=fresh_database_url).log_in()
    with fresh_database.connect() as connection:
        connection.execute(text("UPDATE refresh_tokens SET expires_at = now() - interval '1 second'"))

    cleaning = start_service(database_url=fresh_database_url, cleanup_interval_seconds=1)

    eventually(lambda: cleaning.metric("app_sessions_purged_total") == 1)
    assert left(fresh_database) == 0


def test_an_outage_does_not_end_the_pruning(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    cleaning = start_service(database_url=fresh_database_url, cleanup_interval_seconds=1)
    with fresh_database.connect() as connection:
        connection.execute(text("ALTER TABLE refresh_tokens RENAME TO away"))
        failures = "app_database_errors_total"
        eventually(lambda: cleaning.metric(failures, sqlstate_class="42") >= 2)
        connection.execute(text("ALTER TABLE away RENAME TO refresh_tokens"))
    cleaning.log_in()

    eventually(lambda: cleaning.metric("app_sessions_live") == 1)


def test_the_retention_of_ended_sessions_is_a_setting(
    start_service: MakeService, fresh_database_url: str, clock: MovableClock, fresh_database: Engine
) -> None:
    api = start_service(database_url=fresh_database_url, clock=clock, revoked_session_retention_days=0)
    api.log_out(api.log_in()["access_token"])

    assert api.container.cleanup.sessions_kept == timedelta(0)
    assert prune(api) == 1
    assert left(fresh_database) == 0


def places(fresh_database: Engine, where: str) -> list[tuple[str, str | None, str | None]]:
    """Event, address and user agent, oldest first."""
    with fresh_database.connect() as connection:
        query = f"SELECT event, host(ip_address), user_agent FROM audit_events WHERE {where} ORDER BY id"
        return [(row[0], row[1], row[2]) for row in connection.execute(text(query))]


def test_the_audit_trail_forgets_the_places_of_deleted_users(api: Api, fresh_database: Engine) -> None:
    api.http.headers["User-Agent"] = "Tab/1"
    admin = Admin(api, fresh_database)
    users = [register(api) for _ in range(3)]
    leaver, removed, stays = (user["id"] for user in users)
    for user in users:
        api.token(user["email"], "a wrong password")
    admin.change(leaver, role="admin")
    token = api.log_in(users[0]["email"])["access_token"]
    api.http.post("/api/v1/me/delete", json={"password": PASSWORD}, headers=bearer(token))
    admin.call("DELETE", f"/{removed}")
    here = ("127.0.0.1", "Tab/1")
    of_the_admin = places(fresh_database, f"actor_id = {admin.id}")
    assert {place[1:] for place in places(fresh_database, "true")} == {here}

    prune(api)

    not_by_the_admin = f"actor_id IS DISTINCT FROM {admin.id} AND user_id = "
    assert places(fresh_database, not_by_the_admin + str(leaver)) == [
        ("user.registered", None, None),
        ("login.failed", None, None),
        ("login.succeeded", None, None),
        ("user.deleted", None, None),
    ]
    assert {place[1:] for place in places(fresh_database, not_by_the_admin + str(removed))} == {(None, None)}
    assert {place[1:] for place in places(fresh_database, not_by_the_admin + str(stays))} == {here}
    assert places(fresh_database, f"actor_id = {admin.id}") == of_the_admin
    with fresh_database.connect() as connection:
        marks = connection.scalars(text("SELECT details FROM audit_events WHERE event = 'user.deleted'"))
        assert list(marks) == [{"addresses_erased": True}] * 2


def test_however_many_events_of_a_deleted_user_are_erased(api: Api, fresh_database: Engine) -> None:
    user = register(api)
    token = api.log_in(user["email"])["access_token"]
    with fresh_database.connect() as connection:
        for actor in ("NULL", str(user["id"])):
            connection.execute(
                text(
                    "INSERT INTO audit_events (at, actor_id, user_id, event, ip_address, user_agent, details)"
                    f" SELECT now(), {actor}, {user['id']}, 'login.failed', '192.0.2.1', 'Tab/1', '{{}}'"
                    " FROM generate_series(1, :number)"
                ),
                {"number": 2 * erasure.BATCH_SIZE + 7},
            )
    api.http.post("/api/v1/me/delete", json={"password": PASSWORD}, headers=bearer(token))

    prune(api)

    assert {place[1:] for place in places(fresh_database, "true")} == {(None, None)}
