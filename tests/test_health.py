import time

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from app.services import health
from tests.conftest import MakeService, OwnServer, alembic_config
from tests.support import Api, at_once, error_of


def test_health_is_ok_while_the_database_answers(api: Api) -> None:
    response = api.http.get("/api/v1/health")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_without_a_database_the_service_lives_and_says_so(start_service: MakeService, api: Api) -> None:
    away = start_service(database_url="postgresql://nobody@127.0.0.1:1/nowhere")

    ready = away.http.get("/api/v1/health")

    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable"})
    assert int(ready.headers["retry-after"]) > 0
    live = away.http.get("/api/v1/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    me = away.me(api.log_in()["access_token"])
    assert error_of(me) == (503, "unavailable")
    assert int(me.headers["retry-after"]) > 0


def test_the_root_answers_like_the_api(start_service: MakeService, api: Api) -> None:
    away = start_service(database_url="postgresql://nobody@127.0.0.1:1/nowhere")

    for service in (api, away):
        here, there = service.http.get("/health"), service.http.get("/api/v1/health")
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
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    status: int,
) -> None:
    monkeypatch.setattr(health, "REVISIONS", ("older", *health.REVISIONS))
    api = start_service(database_url=url)
    assert api.http.get("/api/v1/health").status_code == 200

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(change))
    engine.dispose()

    assert api.http.get("/api/v1/health").status_code == status
    assert api.http.get("/api/v1/health/live").status_code == 200


def test_the_code_knows_every_revision() -> None:
    script = ScriptDirectory.from_config(alembic_config("unused"))
    revisions = [revision.revision for revision in script.walk_revisions()]

    assert tuple(reversed(revisions)) == health.REVISIONS


def test_a_stopped_database_is_seen_and_its_return_too(
    start_service: MakeService, own_server: OwnServer
) -> None:
    api = start_service(database_url=own_server.url)
    assert api.http.get("/api/v1/health").status_code == 200

    own_server.kill()
    begin = time.monotonic()
    assert api.http.get("/api/v1/health").status_code == 503
    assert time.monotonic() - begin < 2
    own_server.start_again()
    begin = time.monotonic()
    assert api.http.get("/api/v1/health").status_code == 200
    assert time.monotonic() - begin < 2


def test_a_frozen_database_is_seen_and_its_return_too(
    start_service: MakeService, own_server: OwnServer
) -> None:
    api = start_service(database_url=own_server.url)
    assert api.http.get("/api/v1/health").status_code == 200

    processes = own_server.processes()
    for process in processes:
        process.suspend()
    begin = time.monotonic()
    frozen = at_once(5, lambda _: api.http.get("/api/v1/health").status_code)
    took = time.monotonic() - begin
    for process in processes:
        process.resume()
    begin = time.monotonic()
    thawed = api.http.get("/api/v1/health").status_code

    assert (frozen, thawed) == ([503] * 5, 200)
    assert took < 2
    assert time.monotonic() - begin < 2
