import pytest
from sqlalchemy import Engine, event, text

from app.database import waiting
from app.routers.health import TIMEOUT_SECONDS as PROBE_SECONDS
from tests.support import (
    HEALTH,
    LIVE,
    NOWHERE,
    Api,
    Lines,
    MakeService,
    OwnServer,
    at_once,
    error_of,
    look_into,
)


def test_health_is_ok_while_the_database_answers(api: Api) -> None:
    response = api.http.get(HEALTH)

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_without_a_database_the_service_lives_and_says_so(start_service: MakeService, api: Api) -> None:
    away = start_service(database_url=NOWHERE)

    ready = away.http.get(HEALTH)

    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable"})
    assert int(ready.headers["retry-after"]) > 0
    live = away.http.get(LIVE)
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    me = away.me(api.log_in()["access_token"])
    assert error_of(me) == (503, "unavailable")
    assert int(me.headers["retry-after"]) > 0


def test_health_at_the_root_is_that_of_the_api(start_service: MakeService, api: Api) -> None:
    away = start_service(database_url=NOWHERE)

    for service in (api, away):
        here, there = service.http.get("/health"), service.http.get(HEALTH)
        assert (here.status_code, here.json()) == (there.status_code, there.json())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("DROP TABLE alembic_version", 503),
        ("DELETE FROM alembic_version", 503),
        ("UPDATE alembic_version SET version_num = '16977e70efd2'", 503),
        ("UPDATE alembic_version SET version_num = 'newer'", 200),
    ],
)
def test_a_schema_behind_the_code_is_not_healthy(
    start_service: MakeService,
    fresh_database_url: str,
    change: str,
    status: int,
) -> None:
    api = start_service(database_url=fresh_database_url)
    assert api.http.get(HEALTH).status_code == 200

    engine = look_into(fresh_database_url)
    with engine.connect() as connection:
        connection.execute(text(change))
    engine.dispose()

    assert api.http.get(HEALTH).status_code == status
    assert api.http.get(LIVE).status_code == 200


def test_health_sees_a_stopped_database_and_its_return(
    start_service: MakeService, own_server: OwnServer
) -> None:
    api = start_service(database_url=own_server.url)
    assert api.http.get(HEALTH).status_code == 200

    own_server.kill()
    assert api.http.get(HEALTH).status_code == 503
    own_server.start_again()
    assert api.http.get(HEALTH).status_code == 200


def test_health_sees_a_frozen_database_and_its_return(
    start_service: MakeService, own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the time of the probe alone, however long the statements of others may wait."""
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", 3600)
    assert PROBE_SECONDS < 2
    api = start_service(database_url=own_server.url)
    assert api.http.get(HEALTH).status_code == 200

    own_server.freeze()
    frozen = at_once(5, lambda _: api.http.get(HEALTH).status_code)  # each before the thaw
    own_server.thaw()
    thawed = api.http.get(HEALTH).status_code

    assert (frozen, thawed) == ([503] * 5, 200)


def test_a_read_only_database_is_not_healthy(
    start_service: MakeService,
    fresh_database_url: str,
    fresh_database: Engine,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", lines)  # pytest has put its own back since the fixture did
    with fresh_database.connect() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    api = start_service(database_url=fresh_database_url, log_level="WARNING", log_format="json")

    health, login = api.http.get(HEALTH), api.token("ada@example.com")

    assert (health.status_code, health.json()) == (503, {"status": "unavailable"})
    assert error_of(login) == (503, "unavailable")
    (line,) = lines.events("health.unavailable")
    assert line["reason"] == "the database is read-only"


@pytest.mark.parametrize("of_another_project", [False, True])
def test_an_unknown_revision_is_a_newer_release_only_if_our_columns_are_there(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine, *, of_another_project: bool
) -> None:
    with fresh_database.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'unknown'"))
        if of_another_project:
            connection.execute(text("ALTER TABLE users RENAME hashed_password TO password"))
    api = start_service(database_url=fresh_database_url)

    assert api.http.get(HEALTH).status_code == (503 if of_another_project else 200)


def test_health_asks_for_the_columns_until_they_are_there_and_no_more(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    with fresh_database.connect() as connection:
        connection.execute(text("ALTER TABLE users RENAME hashed_password TO password"))
        api = start_service(database_url=fresh_database_url)
        statements: list[str] = []
        watched = api.container.resources.background.engine
        event.listen(watched, "before_cursor_execute", lambda *details: statements.append(details[2]))

        behind = [api.http.get(HEALTH).status_code for _ in range(2)]
        connection.execute(text("ALTER TABLE users RENAME password TO hashed_password"))
        ready = [api.http.get(HEALTH).status_code for _ in range(3)]

    assert (behind, ready) == ([503, 503], [200, 200, 200])
    assert sum("pg_attribute" in statement for statement in statements) == 3
