"""What a scrape gets."""

import os
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.telemetry.histograms import HistogramText
from app.telemetry.processes import Processes
from app.telemetry.workers import Worker

_END = b"# EOF\n"


class Exposition:
    """Of one registry or, with a `worker`, the sums over all workers of the server."""

    def __init__(self, registry: CollectorRegistry, worker: Worker | None) -> None:
        self._worker = worker
        self._histograms = HistogramText()
        self._registry = registry
        if worker is not None:
            self._registry = CollectorRegistry()
            self._registry.register(_AllWorkers(worker))
        self._registry.register(Processes(worker.pids if worker else lambda: [os.getpid()]))

    def write(self, accept: str) -> tuple[bytes, str]:
        """In the format that the header `Accept` asks for, and its media type."""
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # a version that is no number
            encode, media_type = choose_encoder("")
        text = encode(self._registry)
        if self._worker is not None:
            end = _END if text.endswith(_END) else b""
            files = (str(file) for file in self._worker.files() if _has_histograms(file.name))
            text = text.removesuffix(end) + self._histograms.write(files).encode() + end
        return text, media_type


class _AllWorkers(Collector):
    """All but their histograms."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._worker.files() if not _has_histograms(file.name)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call] # is untyped
        return merged


def _has_histograms(file: str) -> bool:
    return file.startswith("histogram_")
