"""What a scrape gets."""

import os
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.telemetry.histograms import HistogramText, Pair, pairs_in_files, pairs_of
from app.telemetry.processes import Processes
from app.telemetry.workers import Worker

_END = b"# EOF\n"


class Exposition:
    """Of this process or, with a `worker`, the sums over all workers of the server.

    `registry` has all but the histograms.
    """

    def __init__(
        self, registry: CollectorRegistry, histograms: Iterable[Histogram], worker: Worker | None
    ) -> None:
        self._worker = worker
        self._own_histograms = histograms
        self._histograms = HistogramText()
        self._registry = registry
        if worker is not None:
            self._registry = CollectorRegistry()
            self._registry.register(_AllWorkers(worker))
        self._registry.register(Processes(worker.pids if worker else lambda: [os.getpid()]))

    def expect(self, histogram: Histogram, *label_values: str) -> None:
        """A series that is written with zeros until something is observed."""
        self._histograms.expect(histogram, label_values)

    def write(self, accept: str) -> tuple[bytes, str]:
        """In the format that the header `Accept` asks for, and its media type."""
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # a version that is no number
            encode, media_type = choose_encoder("")
        text = encode(self._registry)
        end = _END if text.endswith(_END) else b""
        return b"".join((text.removesuffix(end), *self._histograms.write(self._pairs()), end)), media_type

    def _pairs(self) -> Iterable[Pair]:
        if self._worker is None:
            return pairs_of(self._own_histograms)
        return pairs_in_files(str(file) for file in self._worker.files() if _has_histograms(file.name))


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
