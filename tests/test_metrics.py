import cProfile
import os
import pstats
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import Engine, text

from app.container import VERSION
from app.database import waiting
from app.database_settings import POOL_SIZE
from app.models.sessions import RevocationReason
from app.services.protection.hashing_slots import QUEUE_PER_SLOT
from app.telemetry import workers
from app.telemetry.histograms import HistogramText, pairs_in_files, pairs_of
from app.telemetry.metrics import Metrics
from app.telemetry.workers import FOLDER_VARIABLE
from tests.support import (
    HEALTH,
    LIVE,
    NOWHERE,
    PATIENCE_SECONDS,
    Api,
    EndedServer,
    MakeService,
    Started,
    StartProcess,
    at_once,
    bearer,
    error_of,
    eventually,
    patient,
)
from tests.support.metrics import requests, samples, scrape, whole, workers_counted


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_a_scrape_of_one_worker_says_what_the_registry_knows_in_a_few_calls_a_line(
    start_service: MakeService, accept: str
) -> None:
    """Calls are a measure of work that no busy machine changes."""
    metrics = start_service().container.metrics
    metrics.http.duration.labels('"GE\\T"\n', "/", "200").observe(0.3)
    metrics.exposition.write(accept)  # which lays the lines out

    with cProfile.Profile() as profile:
        content, _ = metrics.exposition.write(accept)

    eventually(lambda: _agree(_scraped(metrics, accept), _known(metrics)))  # what runs by itself counts, too
    assert pstats.Stats(profile).total_calls < 8 * content.count(b"\n")  # type: ignore[attr-defined] # typeshed has it not


def _scraped(metrics: Metrics, accept: str) -> dict[Any, float]:
    scraped = samples(metrics.exposition.write(accept)[0].decode())
    return {key: value for key, value in scraped.items() if not key[0].startswith("process_")}


def _agree(scraped: dict[Any, float], known: dict[Any, float]) -> bool:
    """What the registry does not know of is zero."""
    return scraped == dict.fromkeys(scraped, 0) | known


def _known(metrics: Metrics) -> dict[Any, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def test_every_series_of_the_metrics_is_there_from_the_start_at_zero(start_service: MakeService) -> None:
    api = start_service()
    scraped = scrape(api)

    for name, label, values in [
        ("app_user_registrations_total", "method", ["password"]),
        ("app_user_logins_total", "method", ["password"]),
        ("app_refresh_token_usage_total", "method", ["refresh"]),
        (
            "app_login_failures_total",
            "reason",
            ["unknown_email", "wrong_password", "disabled", "email_not_verified"],
        ),
        (
            "app_throttled_total",
            "bucket",
            ["login_address", "login_account", "login_device", "register_address", "proof", "failures"],
        ),
        (
            "app_refresh_outcomes_total",
            "outcome",
            ["rotated", "replayed", "raced", "reuse_detected", "revoked", "expired", "invalid"],
        ),
        ("app_mails_total", "outcome", ["sent", "postponed", "failed"]),
        (
            "app_sessions_ended_total",
            "reason",
            [reason.value for reason in RevocationReason],
        ),
    ]:
        found = {labels: value for (sample, labels), value in scraped.items() if sample == name}
        assert found == {((label, value),): 0 for value in values}
    refused = (("method", "POST"), ("route", "/api/v1/token"), ("status", "401"))
    assert scraped["http_request_duration_seconds_count", refused] == 0
    assert scraped["app_password_hash_seconds_count", ()] == 0
    assert scraped["app_password_hash_queue", ()] == 0
    assert scraped["app_database_pool_size", ()] > 0
    eventually(lambda: scrape(api)["app_database_pool_in_use", ()] == 0)


def test_registrations_logins_and_failures_are_counted(start_service: MakeService) -> None:
    api = start_service()
    email = api.register().json()["email"]
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

    assert requests(scraped, "<unmatched>") == 4
    strange = (("method", "OTHER"), ("route", "<unmatched>"), ("status", "405"))
    assert scraped["http_request_duration_seconds_count", strange] == 1
    assert scraped["http_requests_in_progress", ()] == 1  # the scrape itself


def test_a_failing_database_is_counted_by_class(
    start_service: MakeService, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.background._KEY_SECONDS", PATIENCE_SECONDS)  # each look for keys would count
    api = start_service()
    email = api.new_user()
    api.register(email)
    away = start_service(database_url=NOWHERE)
    away.http.get(LIVE)
    at_its_start = away.metric("app_database_errors_total", sqlstate_class="none")
    away.http.get("/api/v1/health")
    away.me(api.log_in()["access_token"])  # its statement bypasses SQLAlchemy

    assert api.metric("app_database_errors_total", sqlstate_class="23") == 1
    assert away.metric("app_database_errors_total", sqlstate_class="none") == at_its_start + 2
    eventually(lambda: away.metric("app_database_pool_in_use") == 0)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'kanban-auth'"
            )
        )
    at_once(8, lambda _: api.http.get(HEALTH))
    eventually(lambda: api.metric("app_database_pool_in_use") == 0)


def test_requests_that_wait_for_the_database_are_counted(
    start_service: MakeService, database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_TIMEOUT_SECONDS", PATIENCE_SECONDS)
    api, connections = start_service(database_url=patient(database_url), database_pool_size=5), 3
    token = api.log_in()["access_token"]
    isolated = engine.execution_options(isolation_level="READ COMMITTED")
    with isolated.connect() as connection:
        connection.execute(text("LOCK TABLE users"))
        with ThreadPoolExecutor(connections + 4) as threads:
            calls = [threads.submit(api.me, token) for _ in range(connections + 4)]
            eventually(
                lambda: (
                    api.metric("app_database_pool_waiting") == 4
                    and api.metric("app_database_pool_in_use") == connections
                )
            )
            connection.rollback()
            assert {call.result().status_code for call in calls} <= {200, 503}
    eventually(lambda: api.metric("app_database_pool_waiting") == 0)


@pytest.mark.slow
def test_two_workers_are_one_in_a_scrape(two_workers: Started) -> None:
    before = requests(scrape(two_workers), LIVE)

    at_once(10, lambda _: [two_workers.answers(LIVE) for _ in range(20)])

    eventually(lambda: requests(scrape(two_workers), LIVE) == before + 200)
    scrapes = [scrape(two_workers) for _ in range(6)]
    assert [requests(each, LIVE) for each in scrapes] == [before + 200] * 6
    assert {each["app_database_pool_size", ()] for each in scrapes} == {2 * POOL_SIZE}
    assert {each["http_requests_in_progress", ()] for each in scrapes} == {1}
    build = [labels for name, labels in scrapes[0] if name == "app_build_info"]
    assert [dict(labels)["version"] for labels in build] == [VERSION]


@pytest.mark.slow
def test_a_worker_that_died_keeps_its_counts_and_loses_its_gauges(two_workers: Started) -> None:
    counted = requests(scrape(two_workers), LIVE) + 50
    at_once(10, lambda _: [two_workers.answers(LIVE) for _ in range(5)])
    eventually(lambda: requests(scrape(two_workers), LIVE) == counted)

    before = {worker.pid for worker in two_workers.workers()}
    os.kill(min(before), signal.SIGKILL)
    two_workers.wait_for(
        lambda: len({worker.pid for worker in two_workers.workers()} - before) == 1, "replaced"
    )

    assert requests(scrape(whole(two_workers)), LIVE) == counted
    assert scrape(two_workers)["http_requests_in_progress", ()] == 1


def test_a_worker_that_is_not_replaced_loses_its_gauges_too(two_workers: Started) -> None:
    two_workers.process.send_signal(signal.SIGTTOU)  # uvicorn's: a worker less
    try:
        two_workers.wait_for(lambda: workers_counted(two_workers) == 1, "one worker")
    finally:
        two_workers.process.send_signal(signal.SIGTTIN)


def test_a_worker_that_is_just_beginning_disturbs_no_scrape(
    two_workers: Started, metrics_folder: Path
) -> None:
    (metrics_folder / "counter_7.db").touch()  # made, and not yet filled

    try:
        assert two_workers.answers("/metrics") == 200
    finally:
        (metrics_folder / "counter_7.db").unlink()


def test_a_metrics_folder_that_nobody_holds_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "metrics"))
    first = workers.join()
    (first.folder / "counter_7.db").touch()
    second = workers.join()

    assert (first.index, second.index) == (0, 1)
    assert (first.folder / "counter_7.db").exists()
    assert [first.is_alive(index) for index in range(3)] == [True, True, False]
    second.leave()
    assert [first.is_alive(index) for index in range(3)] == [True, False, False]
    first.leave()
    assert not first.folder.exists()

    first.folder.mkdir()
    (first.folder / "counter_7.db").touch()
    third = workers.join()
    assert list(third.folder.glob("*.db")) == []
    third.leave()


def test_the_workers_leave_no_metrics_folder_behind(ended_server: EndedServer) -> None:
    assert len(ended_server.folders_while_up) == 1
    assert ended_server.folders() == []


@pytest.mark.slow
def test_metrics_that_earlier_workers_left_are_not_counted(
    start_process: StartProcess, database_url: str, tmp_path: Path
) -> None:
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    first = start_process(database_url, **folder).serves()
    assert first.answers(LIVE) == 200
    eventually(lambda: requests(scrape(first), LIVE) == 1)
    first.process.kill()
    first.ends()
    assert list((tmp_path / "metrics").glob("*.db"))

    second = whole(start_process(database_url, WEB_CONCURRENCY="2", **folder))

    assert requests(scrape(second), LIVE) == 0


@pytest.mark.slow
def test_a_metrics_folder_that_cannot_be_shared_ends_the_start(
    start_process: StartProcess, database_url: str
) -> None:
    started = start_process(database_url, WEB_CONCURRENCY="2", PROMETHEUS_MULTIPROC_DIR="/proc/nowhere")

    assert started.ends() == 3
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


def test_a_full_hashing_queue_is_counted(start_service: MakeService, busy_hashing: threading.Event) -> None:
    api = start_service()
    limit = int(api.metric("app_password_hash_queue_limit"))
    assert limit >= QUEUE_PER_SLOT
    slots = limit // QUEUE_PER_SLOT

    def call(index: int) -> int:
        if index:
            return api.token("nobody@example.com").status_code
        eventually(lambda: api.metric("app_password_hash_rejections_total") == 10)
        busy_hashing.set()
        return 0

    busy_hashing.clear()
    calls = at_once(1 + slots + limit + 10, call)

    assert api.metric("app_password_hash_rejections_total") == calls.count(503) == 10
    assert calls.count(401) == slots + limit
    eventually(lambda: api.metric("app_password_hash_queue") == 0)


def test_a_scrape_is_zipped_and_in_openmetrics_for_who_asks(api: Api) -> None:
    plain = api.http.get("/metrics", headers={"Accept-Encoding": "identity"})
    zipped = api.http.get("/metrics", headers={"Accept-Encoding": "gzip"})
    newer = api.http.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    odd = api.http.get("/metrics", headers={"Accept": "application/openmetrics-text;version=odd"})

    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < len(plain.content) / 8
    assert newer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert newer.text.endswith("# EOF\n")
    assert odd.status_code == 200
    assert odd.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_a_method_that_is_not_allowed_makes_no_series_of_its_route(api: Api) -> None:
    before = requests(scrape(api), "<unmatched>")

    assert api.http.patch("/api/v1/token").status_code == 405

    scraped = scrape(api)
    assert requests(scraped, "<unmatched>") == before + 1
    routes = {dict(labels)["route"] for _, labels in scraped if ("status", "405") in labels}
    assert routes == {"<unmatched>"}


def test_what_the_kernel_says_of_the_workers_is_added_up(two_workers: Started, api: Api) -> None:
    both, one = scrape(two_workers), scrape(api)
    resident, files, start = (
        (f"process_{name}", ()) for name in ("resident_memory_bytes", "open_fds", "start_time_seconds")
    )

    sizes = [each.memory_info().rss for each in two_workers.workers()]
    assert both[resident] == pytest.approx(sum(sizes), rel=0.2)
    assert both[resident] > max(sizes) * 1.2
    assert both[files] > 10
    assert both[start] == pytest.approx(max(each.create_time() for each in two_workers.workers()), abs=2)
    assert one[resident] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_the_histograms_of_a_scrape_are_those_of_the_library(
    two_workers: Started, metrics_folder: Path
) -> None:
    for path in (LIVE, "/nowhere", "/metrics"):
        two_workers.get(path)

    files = sorted(str(file) for file in metrics_folder.glob("histogram_*.db"))

    def expected() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call] # the function is untyped
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in merged
            for sample in family.samples
        }

    histograms = HistogramText()

    def written(files: list[str]) -> str:
        return b"".join(histograms.write(pairs_in_files(files))).decode()

    # A request is counted after its answer, which may be between the two readings.
    eventually(lambda: samples(written(files)) == expected())
    one = written(files[:1])  # which are fewer series
    assert 0 < one.count("\n") <= written(files).count("\n")
    assert {line for line in one.splitlines() if line.startswith("# TYPE")} == {
        "# TYPE http_request_duration_seconds histogram",
        "# TYPE app_password_hash_seconds histogram",
    }


def test_a_series_that_another_worker_is_just_making_is_there_whole() -> None:
    """Its file gets the sum first, and then bucket by bucket."""
    metrics = Metrics(revocation_reasons=(), version="test")
    histograms, labels = HistogramText(), ("GET", "/", "200")
    histograms.expect(metrics.http.duration, labels)
    metrics.http.duration.labels(*labels).observe(0.3)
    *buckets, total = pairs_of([metrics.http.duration])

    counts = []
    for there in range(len(buckets) + 1):
        scraped = samples(b"".join(histograms.write([total, *buckets[:there]])).decode())
        assert len(scraped) == len(buckets) + 2
        counts += [value for (name, _), value in scraped.items() if name.endswith("_count")]
    assert counts == [0] * len(buckets) + [1]
