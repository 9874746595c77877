"""What a real Prometheus makes of it; Debian's and Homebrew's package `prometheus` has both programs."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.devdb import PROJECT
from tests.support import PATIENCE_SECONDS, Api, StartProcess, at_once, eventually, reserved_port

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("promtool")), reason="Prometheus is not installed"
    ),
]
RULES = PROJECT / "deploy" / "prometheus"
TOKEN = "the token of the scraper"


def test_promtool_finds_nothing_to_complain_of_in_the_exposition(api: Api) -> None:
    exposition = api.http.get("/metrics").text

    result = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, check=False, text=True
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@contextmanager
def prometheus(folder: Path, config: dict[str, Any]) -> Iterator[httpx.Client]:
    with reserved_port() as port, running(folder, config, f"127.0.0.1:{port}") as client:
        yield client


@contextmanager
def running(folder: Path, config: dict[str, Any], address: str) -> Iterator[httpx.Client]:
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={address}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=PATIENCE_SECONDS) as client:
            yield client
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def query(client: httpx.Client, expression: str) -> list[float]:
    with suppress(httpx.TransportError):
        answer = client.get("/query", params={"query": expression})
        if answer.status_code == 200:
            return [float(series["value"][1]) for series in answer.json()["data"]["result"]]
    return []


def rules_of(client: httpx.Client) -> list[dict[str, Any]]:
    groups = client.get("/rules").json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.slow
def test_prometheus_scrapes_two_workers_as_one_and_evaluates_every_rule(
    start_process: StartProcess, database_url: str, tmp_path: Path
) -> None:
    started = start_process(database_url, WEB_CONCURRENCY="2", METRICS_TOKEN=TOKEN).serves()
    config = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    (job,) = [each for each in config["scrape_configs"] if each["job_name"] == "auth"]
    job["static_configs"] = [{"targets": [started.base_url.removeprefix("http://")]}]
    job["authorization"] = {"credentials": TOKEN}
    job.pop("scrape_interval", None)

    with prometheus(tmp_path, config) as client:

        def comes_to(expression: str, value: float) -> None:
            eventually(
                lambda: query(client, expression) == [value],
                lambda: (expression, value, query(client, expression)),
            )

        live = 'sum(http_request_duration_seconds_count{job="auth", route="/api/v1/health/live"})'
        comes_to(live, 0)
        at_once(10, lambda _: [started.answers("/api/v1/health/live") for _ in range(20)])
        comes_to(live, 200)
        comes_to('up{job="auth"}', 1)
        comes_to('count(app_build_info{job="auth"})', 1)

        eventually(lambda: {rule["health"] for rule in rules_of(client)} == {"ok"}, lambda: rules_of(client))
        rules = rules_of(client)
        assert len(rules) >= 8
        assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()
