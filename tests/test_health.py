from tests.conftest import MakeService
from tests.support import Api, error_of


def test_health_is_ok_while_the_database_answers(api: Api) -> None:
    response = api.http.get("/api/v1/health")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_without_a_database_the_service_lives_and_says_so(start_service: MakeService, api: Api) -> None:
    away = start_service(database_url="postgresql://nobody@127.0.0.1:1/nowhere")

    health = away.http.get("/api/v1/health")

    assert (health.status_code, health.json()) == (503, {"status": "unavailable"})
    assert int(health.headers["retry-after"]) > 0
    live = away.http.get("/api/v1/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    me = away.me(api.log_in()["access_token"])
    assert error_of(me) == (503, "unavailable")
    assert int(me.headers["retry-after"]) > 0
