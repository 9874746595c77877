"""What `/metrics` says."""

import re
from contextlib import suppress

import httpx
from prometheus_client.parser import text_string_to_metric_families

from app.database_settings import POOL_SIZE
from tests.support.api import Api
from tests.support.processes import Started

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
_POOLS = re.compile(r"(?m)^app_database_pool_size (.+)$")


def samples(exposition: str) -> Samples:
    found = [
        ((sample.name, tuple(sorted(sample.labels.items()))), sample.value)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    ]
    once = dict(found)
    assert len(once) == len(found)  # none is there twice
    return once


def scrape(api: Api | Started) -> Samples:
    response = api.http.get("/metrics") if isinstance(api, Api) else api.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return samples(response.text)


def requests(scraped: Samples, route: str) -> float:
    """So many were answered."""
    return sum(
        value
        for (name, labels), value in scraped.items()
        if name == "http_request_duration_seconds_count" and ("route", route) in labels
    )


def workers_counted(started: Started) -> float | None:
    """None where nobody answered: a worker that goes away cuts off whom it had not accepted yet."""
    with suppress(httpx.TransportError):
        (size,) = _POOLS.findall(started.get("/metrics").text)
        return float(size) / POOL_SIZE
    return None


def whole(started: Started) -> Started:
    """When both of its workers are there."""
    started.serves().wait_for(lambda: workers_counted(started) == 2, "whole")
    return started
