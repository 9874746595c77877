import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, text

from app import workers
from app.application import DATABASE_THREADS, VERSION
from app.database import POOL_SIZE
from app.services.passwords import QUEUE_PER_SLOT
from app.workers import FOLDER_VARIABLE
from tests.conftest import MakeService, Start
from tests.support import Api, Started, at_once, bearer, error_of

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(exposition: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def scrape(api: Api) -> Samples:
    response = api.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return samples(response.text)


def requests(scraped: Samples, route: str) -> float:
    return sum(
        value
        for (name, labels), value in scraped.items()
        if name == "http_request_duration_seconds_count" and ("route", route) in labels
    )


def test_every_series_is_there_from_the_start_at_zero(start_service: MakeService) -> None:
    scraped = scrape(start_service())

    for name, label, values in [
        ("app_user_registrations_total", "method", ["password"]),
        ("app_user_logins_total", "method", ["password"]),
        ("app_refresh_token_usage_total", "method", ["refresh"]),
        ("app_login_failures_total", "reason", ["unknown_email", "wrong_password", "disabled"]),
        (
            "app_refresh_outcomes_total",
            "outcome",
            ["rotated", "replayed", "raced", "reuse_detected", "revoked", "expired", "invalid"],
        ),
        (
            "app_sessions_ended_total",
            "reason",
            ["logout", "logout_all", "password_change", "reuse_detected", "admin", "user_disabled"],
        ),
    ]:
        found = {labels: value for (sample, labels), value in scraped.items() if sample == name}
        assert found == {((label, value),): 0 for value in values}
    refused = (("method", "POST"), ("route", "/api/v1/token"), ("status", "401"))
    assert scraped["http_request_duration_seconds_count", refused] == 0
    assert scraped["app_password_hash_seconds_count", ()] == 0
    assert scraped["app_password_hash_queue", ()] == 0
    assert scraped["app_database_pool_in_use", ()] == 0
    assert scraped["app_database_pool_size", ()] > 0


def test_what_happens_is_counted(start_service: MakeService) -> None:
    api = start_service()
    email = api.new_user()
    api.log_in(email)
    api.token(email, "another password")
    api.token("nobody@example.com")

    scraped = scrape(api)

    assert scraped["app_user_registrations_total", (("method", "password"),)] == 1
    assert scraped["app_user_logins_total", (("method", "password"),)] == 1
    assert scraped["app_login_failures_total", (("reason", "wrong_password"),)] == 1
    assert scraped["app_login_failures_total", (("reason", "unknown_email"),)] == 1
    assert scraped["app_password_hash_seconds_count", ()] == 4
    assert requests(scraped, "/api/v1/token") == 3


def test_requests_are_counted_under_the_template_of_their_route(start_service: MakeService) -> None:
    api = start_service()
    for path in ("/nowhere", "/api/v1/nowhere/7", "/../etc/passwd"):
        api.http.get(path)
    api.http.request("PROPFIND", "/api/v1/me")

    scraped = scrape(api)

    assert requests(scraped, "<unmatched>") == 3
    strange = (("method", "OTHER"), ("route", "/api/v1/me"), ("status", "405"))
    assert scraped["http_request_duration_seconds_count", strange] == 1
    assert scraped["http_requests_in_progress", ()] == 1  # the scrape itself


def test_a_failing_database_is_counted_by_class(start_service: MakeService, engine: Engine) -> None:
    api = start_service()
    email = api.new_user()
    api.register(email)
    away = start_service(database_url="postgresql://nobody@127.0.0.1:1/nowhere")
    away.http.get("/api/v1/health")

    assert api.metric("app_database_errors_total", sqlstate_class="23") == 1
    assert away.metric("app_database_errors_total", sqlstate_class="none") == 1
    assert away.metric("app_database_pool_in_use") == 0
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'kanban-auth' AND pid <> pg_backend_pid()"
            )
        )
    at_once(8, lambda _: api.http.get("/api/v1/health"))
    assert api.metric("app_database_pool_in_use") == 0


def test_the_line_before_the_database_is_seen(start_service: MakeService, engine: Engine) -> None:
    api = start_service()
    token = api.log_in()["access_token"]
    isolated = engine.execution_options(isolation_level="READ COMMITTED")
    with isolated.connect() as connection:
        connection.execute(text("LOCK TABLE users"))
        with ThreadPoolExecutor(6) as threads:
            calls = [threads.submit(api.me, token) for _ in range(6)]
            deadline = time.monotonic() + 20
            while (
                api.metric("app_database_pool_waiting") != 6 - DATABASE_THREADS
                or api.metric("app_database_pool_in_use") != DATABASE_THREADS
            ):
                assert time.monotonic() < deadline
            connection.rollback()
            assert {call.result().status_code for call in calls} <= {200, 503}
    assert api.metric("app_database_pool_waiting") == 0


def scraped_from(started: Started) -> Samples:
    return samples(httpx.get(f"{started.base_url}/metrics").text)


def with_two_workers(started: Started) -> Started:
    pools = ("app_database_pool_size", ())
    started.serves().wait_for(lambda: scraped_from(started)[pools] == 2 * POOL_SIZE, "whole")
    return started


def test_two_workers_are_one_in_a_scrape(start: Start, database_url: str) -> None:
    started = with_two_workers(start(database_url, WEB_CONCURRENCY="2"))
    live = "/api/v1/health/live"

    at_once(10, lambda _: [started.answers(live) for _ in range(20)])

    scrapes = [scraped_from(started) for _ in range(6)]
    assert [requests(scrape, live) for scrape in scrapes] == [200] * 6
    served = {scrape["app_database_pool_size", ()] for scrape in scrapes}
    assert served == {2 * POOL_SIZE}
    assert {scrape["http_requests_in_progress", ()] for scrape in scrapes} == {1}
    build = [labels for name, labels in scrapes[0] if name == "app_build_info"]
    assert [dict(labels)["version"] for labels in build] == [VERSION]


def test_a_worker_that_died_keeps_its_counts_and_loses_its_gauges(start: Start, database_url: str) -> None:
    started = with_two_workers(start(database_url, WEB_CONCURRENCY="2"))
    live = "/api/v1/health/live"
    at_once(10, lambda _: [started.answers(live) for _ in range(5)])

    def workers() -> set[int]:
        alive = [child for child in started.process.children() if child.status() != psutil.STATUS_ZOMBIE]
        return {child.pid for child in alive if "spawn_main" in str(child.cmdline())}

    before = workers()
    os.kill(min(before), signal.SIGKILL)
    started.wait_for(lambda: len(workers() - before) == 1, "replaced")
    with_two_workers(started)
    assert requests(scraped_from(started), live) == 50
    assert scraped_from(started)["http_requests_in_progress", ()] == 1


def test_a_worker_that_is_not_replaced_loses_its_gauges_too(start: Start, database_url: str) -> None:
    started = with_two_workers(start(database_url, WEB_CONCURRENCY="2"))

    started.process.send_signal(signal.SIGTTOU)  # uvicorn's: a worker less

    pools = ("app_database_pool_size", ())
    started.wait_for(lambda: scraped_from(started)[pools] == POOL_SIZE, "one worker")


def test_a_worker_that_is_just_beginning_disturbs_no_scrape(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "metrics"
    settings = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "WEB_CONCURRENCY": "2"}
    started = with_two_workers(start(database_url, **settings))

    (folder / "counter_7.db").touch()  # made, and not yet filled

    assert started.answers("/metrics") == 200


def test_a_folder_that_nobody_holds_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "metrics"))
    first = workers.join()
    (first.folder / "counter_7.db").touch()
    second = workers.join()

    assert (first.place, second.place) == (0, 1)
    assert (first.folder / "counter_7.db").exists()
    assert [first.is_alive(place) for place in range(3)] == [True, True, False]
    second.leave()
    assert [first.is_alive(place) for place in range(3)] == [True, False, False]
    first.leave()
    assert not first.folder.exists()

    first.folder.mkdir()
    (first.folder / "counter_7.db").touch()
    third = workers.join()
    assert list(third.folder.glob("*.db")) == []
    third.leave()


def test_the_workers_leave_no_folder_behind(start: Start, database_url: str, tmp_path: Path) -> None:
    started = start(database_url, WEB_CONCURRENCY="2", TMPDIR=str(tmp_path))
    with_two_workers(started)
    assert len(list(tmp_path.glob("kanban-auth-metrics-*"))) == 1

    started.process.terminate()
    started.process.wait(30)

    assert list(tmp_path.glob("kanban-auth-metrics-*")) == []


def test_what_earlier_workers_left_is_not_counted(start: Start, database_url: str, tmp_path: Path) -> None:
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"), "WEB_CONCURRENCY": "2"}
    first = with_two_workers(start(database_url, **folder))
    first.answers("/api/v1/health/live")
    for process in [*first.process.children(), first.process]:
        process.kill()
    first.process.wait(30)
    assert list((tmp_path / "metrics").glob("*.db"))

    second = with_two_workers(start(database_url, **folder))

    assert requests(scraped_from(second), "/api/v1/health/live") == 0


def test_a_folder_that_cannot_be_shared_ends_the_start(start: Start, database_url: str) -> None:
    started = start(database_url, WEB_CONCURRENCY="2", PROMETHEUS_MULTIPROC_DIR="/proc/nowhere")

    assert started.process.wait(60) == 3
    assert "set PROMETHEUS_MULTIPROC_DIR to another one" in started.output


def test_a_token_guards_the_metrics_where_there_is_one(start_service: MakeService, api: Api) -> None:
    guarded = start_service(metrics_token="of the scraper")

    assert api.http.get("/metrics").status_code == 200
    assert error_of(guarded.http.get("/metrics")) == (401, "not_authenticated")
    wrong = guarded.http.get("/metrics", headers=bearer("of somebody else"))
    assert error_of(wrong) == (401, "invalid_token")
    assert wrong.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    strange = guarded.http.get("/metrics", headers={b"Authorization": "Bearer é".encode()})
    assert error_of(strange) == (401, "invalid_token")
    user = guarded.log_in()["access_token"]
    assert error_of(guarded.http.get("/metrics", headers=bearer(user))) == (401, "invalid_token")
    assert guarded.http.get("/metrics", headers=bearer("of the scraper")).status_code == 200


def test_a_full_hashing_queue_is_counted(start_service: MakeService) -> None:
    api = start_service(bcrypt_rounds=10)
    limit = int(api.metric("app_password_hash_queue_limit"))
    assert limit >= QUEUE_PER_SLOT

    calls = at_once(limit * 2 + 10, lambda _: api.token("nobody@example.com").status_code)

    assert api.metric("app_password_hash_rejections_total") == calls.count(503) > 0
    assert api.metric("app_password_hash_queue") == 0
