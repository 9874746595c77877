import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app import database
from app.routers.health import PATIENCE_SECONDS as PROBE_SECONDS
from app.services import health
from tests.support import (
    HEALTH,
    LIVE,
    NOWHERE,
    Api,
    MakeService,
    OwnServer,
    alembic_config,
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
        ("UPDATE alembic_version SET version_num = 'older'", 503),
        ("UPDATE alembic_version SET version_num = 'newer'", 200),
    ],
)
def test_a_schema_behind_the_code_is_not_healthy(
    start_service: MakeService,
    fresh_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    status: int,
) -> None:
    monkeypatch.setattr(health, "REVISIONS", ("older", *health.REVISIONS))
    api = start_service(database_url=fresh_database_url)
    assert api.http.get(HEALTH).status_code == 200

    engine = look_into(fresh_database_url)
    with engine.connect() as connection:
        connection.execute(text(change))
    engine.dispose()

    assert api.http.get(HEALTH).status_code == status
    assert api.http.get(LIVE).status_code == 200


def test_health_knows_every_revision() -> None:
    script = ScriptDirectory.from_config(alembic_config("unused"))
    revisions = [revision.revision for revision in script.walk_revisions()]

    assert tuple(reversed(revisions)) == health.REVISIONS


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
    monkeypatch.setattr(database, "SILENCE_TIMEOUT_SECONDS", 3600)
    assert PROBE_SECONDS < 2
    api = start_service(database_url=own_server.url)
    assert api.http.get(HEALTH).status_code == 200

    own_server.freeze()
    frozen = at_once(5, lambda _: api.http.get(HEALTH).status_code)  # each before the thaw
    own_server.thaw()
    thawed = api.http.get(HEALTH).status_code

    assert (frozen, thawed) == ([503] * 5, 200)
