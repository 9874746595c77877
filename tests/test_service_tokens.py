"""Service tokens: what sibling services and scrapers show."""

import pytest
from sqlalchemy import Engine, text

from app.database import waiting
from app.models.service_tokens import Scope
from tests.support import (
    PATIENCE_SECONDS,
    Api,
    MakeService,
    MovableClock,
    bearer,
    error_of,
    eventually,
    patient,
    until_blocked,
)
from tests.support.siblings import OPERATOR, REVOCATIONS, Sibling


def test_a_service_token_is_stored_as_a_hash_alone(api: Api, engine: Engine) -> None:
    sibling = Sibling(api)

    with engine.connect() as connection:
        query = text("SELECT * FROM service_tokens WHERE id = :id")
        row = connection.execute(query, {"id": sibling.stored.id}).one()
    assert sibling.token.startswith("kas_")
    assert len(sibling.token) == len("kas_") + 43
    assert sibling.token not in str(row)
    assert sibling.token[4:] not in str(row)


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (None, (401, "not_authenticated")),
        ("kas_", (401, "invalid_token")),
        ("kas_" + "A" * 43, (401, "invalid_token")),
        ("kas_\xff", (401, "invalid_token")),
        ("x" * 8000, (401, "invalid_token")),
    ],
)
def test_without_a_service_token_of_ours_nobody_reads_revocations(
    api: Api, token: str | None, error: tuple[int, str]
) -> None:
    headers = {b"Authorization": b"Bearer " + token.encode("latin-1")} if token else {}

    assert error_of(api.http.get(REVOCATIONS, headers=headers)) == error


def test_a_users_access_token_is_no_service_token(api: Api) -> None:
    access = api.log_in()["access_token"]

    assert error_of(api.http.get(REVOCATIONS, headers=bearer(access))) == (401, "invalid_token")


def test_a_service_token_is_no_users_access_token(api: Api) -> None:
    assert error_of(api.me(Sibling(api).token)) == (401, "invalid_token")


@pytest.mark.parametrize("scope", [Scope.INTROSPECT, Scope.METRICS])
def test_a_service_token_opens_what_its_scopes_say_alone(api: Api, scope: Scope) -> None:
    sibling = Sibling(api, scope)

    assert error_of(sibling.page()) == (403, "forbidden")
    opens = sibling.introspect("x").status_code == 200
    assert opens == (scope is Scope.INTROSPECT)


def test_a_revoked_service_token_is_refused_at_once(api: Api) -> None:
    sibling, other = Sibling(api), Sibling(api)
    assert sibling.page().status_code == 200

    api.operator.service_tokens.revoke(OPERATOR, str(sibling.stored.id))

    assert error_of(sibling.page()) == (401, "invalid_token")
    assert other.page().status_code == 200


def test_a_name_revokes_all_of_its_tokens(api: Api) -> None:
    first, second = Sibling(api, name="notifications"), Sibling(api, name="notifications")

    assert api.operator.service_tokens.revoke(OPERATOR, "notifications") == 2

    assert error_of(first.page()) == error_of(second.page()) == (401, "invalid_token")


def test_the_last_use_is_recorded_to_the_minute(start_service: MakeService) -> None:
    clock = MovableClock()
    api = start_service(clock=clock)
    sibling = Sibling(api)

    def last_use() -> object:
        return next(
            each.last_used_at for each in api.operator.service_tokens.list() if each.id == sibling.stored.id
        )

    assert last_use() is None
    sibling.page()
    first = clock.now
    eventually(lambda: last_use() == first)
    clock.move(seconds=30)
    sibling.page()
    assert last_use() == first
    clock.move(seconds=31)
    sibling.page()
    eventually(lambda: last_use() == clock.now)


def test_no_answer_waits_for_its_use_to_be_recorded(
    start_service: MakeService, database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", PATIENCE_SECONDS)
    api = start_service(database_url=patient(database_url))
    sibling = Sibling(api)
    with engine.execution_options(isolation_level="READ COMMITTED").connect() as other:
        other.execute(text("SELECT FROM service_tokens FOR UPDATE"))

        assert sibling.page().status_code == 200
        until_blocked(engine, 1)
        other.rollback()


def test_metrics_are_read_with_the_old_token_or_a_service_token_of_that_scope(
    start_service: MakeService,
) -> None:
    api = start_service(metrics_token="a token that only scrapers have")
    scraper, sibling = Sibling(api, Scope.METRICS), Sibling(api, Scope.REVOCATIONS)

    def read(token: str) -> int:
        return api.http.get("/metrics", headers=bearer(token)).status_code

    assert read("a token that only scrapers have") == read(scraper.token) == 200
    assert read(sibling.token) == 403
    assert read("kas_unknown") == read("another token") == 401


def test_what_happens_to_service_tokens_is_in_the_audit_trail(api: Api, engine: Engine) -> None:
    sibling = Sibling(api, Scope.METRICS, name="prometheus")
    api.operator.service_tokens.revoke(OPERATOR, str(sibling.stored.id))

    with engine.connect() as connection:
        query = text("SELECT event, details FROM audit_events WHERE details->>'token_id' = :id ORDER BY id")
        rows = connection.execute(query, {"id": str(sibling.stored.id)}).all()
    assert [row.event for row in rows] == ["service.created", "service.revoked"]
    assert rows[0].details["scopes"] == ["metrics"]
    assert sibling.token not in str(rows)
