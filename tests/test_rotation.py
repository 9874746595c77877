from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from jose import jwt
from sqlalchemy import Engine, text

from app.database.transactions import Database
from app.services.sessions import rotation
from tests.support import NOWHERE, Api, MakeService, MovableClock, at_once, error_of, until_blocked
from tests.support.accounts import session_of

DAY = 86400


def row_of(engine: Engine, pair: dict[str, Any]) -> Any:
    with engine.connect() as connection:
        query = text("SELECT * FROM refresh_tokens WHERE id = :sid")
        return connection.execute(query, {"sid": session_of(pair)}).one()


def update_user(engine: Engine, pair: dict[str, Any], assignment: str) -> None:
    with engine.connect() as connection:
        user_id = jwt.get_unverified_claims(pair["access_token"])["sub"]
        connection.execute(text(f"UPDATE users SET {assignment} WHERE id = :id"), {"id": user_id})


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(scope="module")
def clocked(start_lasting_service: MakeService, clock: MovableClock) -> Api:
    """A service whose time stands still until a test moves it."""
    return start_lasting_service(clock=clock)


def test_a_refresh_answers_with_a_new_pair_of_the_same_session(api: Api) -> None:
    first = api.log_in()

    response = api.refresh(first["refresh_token"])

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    second = response.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert session_of(second) == session_of(first)
    assert api.me(second["access_token"]).status_code == 200


def test_a_refresh_token_is_good_once(api: Api) -> None:
    token = api.log_in()["refresh_token"]
    api.refresh(token)

    response = api.refresh(token)

    assert error_of(response) == (401, "refresh_token_reused")
    assert response.json()["detail"] == "Refresh token invalid or reused"
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_of_fifty_parallel_refreshes_one_wins_and_the_session_lives(api: Api) -> None:
    token = api.log_in()["refresh_token"]

    responses = at_once(50, lambda _: api.refresh(token))

    winners = [response for response in responses if response.status_code == 200]
    losers = [error_of(response) for response in responses if response.status_code != 200]
    assert len(winners) == 1
    assert set(losers) == {(401, "refresh_token_reused")}
    assert api.refresh(winners[0].json()["refresh_token"]).status_code == 200


def test_a_session_is_one_row_however_often_it_is_refreshed(api: Api, engine: Engine) -> None:
    pair = api.log_in()

    token = pair["refresh_token"]
    for _ in range(10):
        token = api.refresh(token).json()["refresh_token"]

    with engine.connect() as connection:
        query = text("SELECT count(*) FROM refresh_tokens WHERE user_id = :id")
        user_id = jwt.get_unverified_claims(token)["sub"]
        assert connection.execute(query, {"id": user_id}).scalar_one() == 1


def test_a_rotation_touches_no_index(api: Api, engine: Engine) -> None:
    claims = jwt.get_unverified_claims(api.log_in()["refresh_token"])
    updates = text(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'refresh_tokens'"
    )
    now = datetime.now(UTC)
    parameters = {
        "session_id": UUID(claims["sid"]),
        "presented": UUID(claims["jti"]),
        "successor": uuid4(),
        "now": now,
        "idle_until": now + timedelta(days=7),
        "session_lifetime": timedelta(days=90),
        "key_hash": "x" * 64,
        "user_agent": "another",
        "ip_address": "::1",
    }

    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        before = connection.execute(updates).one()  # of an earlier test, which the server adds up later
        connection.execute(rotation._ROTATE.statement, parameters)
        after = connection.execute(updates).one()
        connection.rollback()

    assert [new - old for old, new in zip(before, after, strict=True)] == [1, 1]


def test_a_rotation_is_one_statement(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    token = api.log_in()["refresh_token"]
    statements: list[object] = []
    execute = Database.execute

    def note(db: Database, statement: Any, parameters: Any) -> Any:
        statements.append(statement)
        return execute(db, statement, parameters)

    monkeypatch.setattr(Database, "execute", note)
    monkeypatch.delattr(Database, "transaction")
    assert api.refresh(token).status_code == 200

    assert statements == [rotation._ROTATE]


@pytest.mark.parametrize("seconds", [0, 9, 10])
def test_within_the_leeway_a_used_token_does_no_harm(clocked: Api, clock: MovableClock, seconds: int) -> None:
    first = clocked.log_in()
    second = clocked.refresh(first["refresh_token"]).json()
    clock.move(seconds=seconds)

    assert error_of(clocked.refresh(first["refresh_token"])) == (401, "refresh_token_reused")

    assert clocked.refresh(second["refresh_token"]).status_code == 200


def test_past_the_leeway_a_used_token_ends_its_session(
    clocked: Api, clock: MovableClock, engine: Engine
) -> None:
    first = clocked.log_in()
    second = clocked.refresh(first["refresh_token"]).json()
    ended = clocked.metric("app_sessions_ended_total", reason="reuse_detected")
    clock.move(seconds=11)

    assert error_of(clocked.refresh(first["refresh_token"])) == (401, "refresh_token_reused")

    assert error_of(clocked.refresh(second["refresh_token"])) == (401, "refresh_token_reused")
    assert row_of(engine, first).revoked_reason == "reuse_detected"
    assert clocked.metric("app_sessions_ended_total", reason="reuse_detected") == ended + 1


def test_reuse_of_a_token_ends_no_other_session_of_the_user(clocked: Api, clock: MovableClock) -> None:
    email = clocked.new_user()
    stolen, other = clocked.log_in(email), clocked.log_in(email)
    clocked.refresh(stolen["refresh_token"])
    clock.move(seconds=11)

    clocked.refresh(stolen["refresh_token"])

    assert clocked.refresh(other["refresh_token"]).status_code == 200


def test_a_token_used_two_rotations_ago_ends_its_session_at_once(api: Api, engine: Engine) -> None:
    first = api.log_in()
    second = api.refresh(first["refresh_token"]).json()
    third = api.refresh(second["refresh_token"]).json()

    assert error_of(api.refresh(first["refresh_token"])) == (401, "refresh_token_reused")

    assert error_of(api.refresh(third["refresh_token"])) == (401, "refresh_token_reused")
    assert row_of(engine, first).revoked_reason == "reuse_detected"


def test_parallel_reuse_ends_a_session_once(api: Api) -> None:
    first = api.log_in()
    api.refresh(api.refresh(first["refresh_token"]).json()["refresh_token"])
    ended = api.metric("app_sessions_ended_total", reason="reuse_detected")

    responses = at_once(20, lambda _: api.refresh(first["refresh_token"]))

    assert {error_of(response) for response in responses} == {(401, "refresh_token_reused")}
    assert api.metric("app_sessions_ended_total", reason="reuse_detected") == ended + 1


def test_without_a_leeway_a_used_token_ends_its_session_at_once(
    start_service: MakeService, engine: Engine
) -> None:
    api = start_service(refresh_reuse_leeway_seconds=0, clock=MovableClock())
    first = api.log_in()
    api.refresh(first["refresh_token"])

    api.refresh(first["refresh_token"])

    assert row_of(engine, first).revoked_reason == "reuse_detected"


@pytest.mark.parametrize("seconds", [0, 30, 60])
def test_a_lost_answer_is_given_again_byte_for_byte(clocked: Api, clock: MovableClock, seconds: int) -> None:
    first = clocked.log_in()
    lost = clocked.refresh(first["refresh_token"], key="tab-1").json()
    clock.move(seconds=seconds)

    again = clocked.refresh(first["refresh_token"], key="tab-1")

    assert again.status_code == 200
    assert again.json()["refresh_token"] == lost["refresh_token"]
    assert again.json()["refresh_expires_in"] == 7 * DAY - seconds
    assert clocked.me(again.json()["access_token"]).status_code == 200
    assert clocked.refresh(lost["refresh_token"]).status_code == 200


def test_all_parallel_refreshes_with_one_key_get_the_same_token(api: Api) -> None:
    token = api.log_in()["refresh_token"]

    responses = at_once(20, lambda _: api.refresh(token, key="same"))

    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["refresh_token"] for response in responses}) == 1


@pytest.mark.parametrize("key", ["another", None])
def test_an_answer_is_not_given_again_without_its_key(api: Api, key: str | None) -> None:
    first = api.log_in()
    api.refresh(first["refresh_token"], key="mine")

    assert error_of(api.refresh(first["refresh_token"], key=key)) == (401, "refresh_token_reused")


def test_an_idempotency_key_added_later_brings_no_answer_back(api: Api) -> None:
    first = api.log_in()
    api.refresh(first["refresh_token"])

    assert error_of(api.refresh(first["refresh_token"], key="late")) == (401, "refresh_token_reused")


def test_an_answer_is_not_given_again_after_a_minute(
    clocked: Api, clock: MovableClock, engine: Engine
) -> None:
    first = clocked.log_in()
    clocked.refresh(first["refresh_token"], key="k")
    clock.move(seconds=61)

    assert error_of(clocked.refresh(first["refresh_token"], key="k")) == (401, "refresh_token_reused")

    assert row_of(engine, first).revoked_reason == "reuse_detected"


def test_an_answer_is_not_given_again_once_its_token_was_used(api: Api, engine: Engine) -> None:
    first = api.log_in()
    second = api.refresh(first["refresh_token"], key="k").json()
    api.refresh(second["refresh_token"], key="l")

    assert error_of(api.refresh(first["refresh_token"], key="k")) == (401, "refresh_token_reused")

    assert row_of(engine, first).revoked_reason == "reuse_detected"


def test_an_idempotency_key_is_kept_as_a_hash(api: Api, engine: Engine) -> None:
    pair = api.log_in()

    api.refresh(pair["refresh_token"], key="a-key-of-ours")

    assert "a-key-of-ours" not in str(row_of(engine, pair))
    assert len(row_of(engine, pair).idempotency_key_hash) == 64


def test_an_idempotency_key_has_at_most_255_characters(api: Api) -> None:
    response = api.refresh(api.log_in()["refresh_token"], key="k" * 256)

    assert error_of(response) == (400, "validation_error")


def test_an_idle_session_ends_after_seven_days(clocked: Api, clock: MovableClock) -> None:
    pair = clocked.log_in()
    clock.move(seconds=7 * DAY)

    assert error_of(clocked.refresh(pair["refresh_token"])) == (401, "invalid_refresh_token")


def test_each_rotation_renews_the_seven_days_of_a_session(clocked: Api, clock: MovableClock) -> None:
    pair = clocked.log_in()
    for _ in range(3):
        clock.move(days=6)
        pair = clocked.refresh(pair["refresh_token"]).json()

    assert pair["refresh_expires_in"] == 7 * DAY


def test_no_session_outlives_ninety_days(clocked: Api, clock: MovableClock) -> None:
    pair = clocked.log_in()
    for _ in range(14):
        clock.move(days=6)
        pair = clocked.refresh(pair["refresh_token"]).json()
    clock.move(days=5)

    pair = clocked.refresh(pair["refresh_token"]).json()

    assert pair["refresh_expires_in"] == 1 * DAY
    clock.move(days=1)
    assert error_of(clocked.refresh(pair["refresh_token"])) == (401, "invalid_refresh_token")


def test_a_session_that_ended_early_in_the_table_is_expired(api: Api, engine: Engine) -> None:
    pair = api.log_in()
    with engine.connect() as connection:
        query = text("UPDATE refresh_tokens SET expires_at = now() - interval '1 s' WHERE id = :sid")
        connection.execute(query, {"sid": session_of(pair)})

    assert error_of(api.refresh(pair["refresh_token"])) == (401, "invalid_refresh_token")


def test_a_revoked_session_stays_revoked(api: Api) -> None:
    pair = api.log_in()
    api.log_out(pair["access_token"])

    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")


def test_a_disabled_user_is_not_refreshed(api: Api, engine: Engine) -> None:
    pair = api.log_in()
    update_user(engine, pair, "is_active = false")

    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert error_of(api.me(pair["access_token"])) == (401, "invalid_token")


def test_a_deleted_user_is_not_refreshed(api: Api, engine: Engine) -> None:
    pair = api.log_in()
    with engine.connect() as connection:
        user_id = jwt.get_unverified_claims(pair["access_token"])["sub"]
        connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": user_id})

    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert error_of(api.me(pair["access_token"])) == (401, "invalid_token")


def test_the_next_access_token_carries_a_new_role(api: Api, engine: Engine) -> None:
    pair = api.log_in()
    update_user(engine, pair, "role = 'guest'")

    refreshed = api.refresh(pair["refresh_token"]).json()

    assert jwt.get_unverified_claims(refreshed["access_token"])["role"] == "guest"
    assert api.me(pair["access_token"]).json()["role"] == "guest"


@pytest.mark.parametrize("change", ["is_active = false", "hashed_password = 'another'"])
def test_a_login_that_overlaps_a_change_of_its_user_opens_no_session(
    api: Api, engine: Engine, change: str
) -> None:
    email = api.new_user()
    refused = api.metric("app_login_failures_total", reason="disabled")
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as admin:
        admin.execute(text(f"UPDATE users SET {change} WHERE email = :email"), {"email": email})

        def commit_when_blocked() -> None:
            until_blocked(engine)
            admin.commit()

        responses = at_once(2, lambda n: api.token(email) if n else commit_when_blocked())

    assert error_of(responses[1]) == (401, "invalid_credentials")
    assert api.metric("app_login_failures_total", reason="disabled") == refused + 1


def test_a_forged_token_is_refused_before_the_database_is_asked(start_service: MakeService) -> None:
    api = start_service(database_url=NOWHERE)

    assert error_of(api.refresh("not.a.token")) == (401, "invalid_refresh_token")


def test_a_refresh_without_a_token_is_not_authenticated(api: Api) -> None:
    response = api.http.post("/api/v1/refresh")

    assert error_of(response) == (401, "not_authenticated")
    assert response.headers["www-authenticate"] == "Bearer"


def test_the_outcomes_of_refreshes_are_counted(clocked: Api, clock: MovableClock) -> None:
    def outcomes() -> dict[str, float]:
        names = ("rotated", "replayed", "raced", "reuse_detected", "revoked", "expired", "invalid")
        return {name: clocked.metric("app_refresh_outcomes_total", outcome=name) for name in names}

    before = outcomes()
    successes = clocked.metric("app_refresh_token_usage_total", method="refresh")
    token = clocked.log_in()["refresh_token"]
    clocked.refresh(token, key="k")
    clocked.refresh(token, key="k")
    clocked.refresh(token)
    clock.move(seconds=11)
    clocked.refresh(token)
    clocked.refresh(token)
    clocked.refresh("nonsense")

    counted = {name: value - before[name] for name, value in outcomes().items()}
    assert counted == {
        "rotated": 1,
        "replayed": 1,
        "raced": 1,
        "reuse_detected": 1,
        "revoked": 1,
        "expired": 0,
        "invalid": 1,
    }
    assert clocked.metric("app_refresh_token_usage_total", method="refresh") == successes + 2
