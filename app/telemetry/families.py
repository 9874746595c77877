"""Creates metrics with the project's conventions."""

import platform
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import Collector

Mode = Literal["livesum", "livemin", "livemostrecent"]
C = TypeVar("C", bound=Collector)


class Families:
    """Creates metrics in one registry; counters and gauges start with all their label values.

    `others` has all but the `histograms`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.histograms: list[Histogram] = []
        self.others = CollectorRegistry()

    def counter(self, name: str, text: str, label: str, label_values: Iterable[str]) -> Counter:
        counter = Counter(name, text, (label,), registry=self._registry)
        for value in label_values:
            counter.labels(value)
        return self._other(counter)

    def total(self, name: str, text: str) -> Counter:
        return self._other(Counter(name, text, registry=self._registry))

    def gauge(self, name: str, text: str, mode: Mode = "livesum") -> Gauge:
        return self._other(Gauge(name, text, registry=self._registry, multiprocess_mode=mode))

    def gauges(
        self, name: str, text: str, label: str, label_values: Iterable[str], mode: Mode = "livesum"
    ) -> Gauge:
        gauge = Gauge(name, text, (label,), registry=self._registry, multiprocess_mode=mode)
        for value in label_values:
            gauge.labels(value)
        return self._other(gauge)

    def histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        histogram = Histogram(name, text, labels, buckets=buckets, registry=self._registry)
        self.histograms.append(histogram)
        return histogram

    def build_info(self, version: str) -> None:
        text, labels = "Always 1; the labels say what runs.", ("version", "python")
        build = Gauge("app_build_info", text, labels, registry=self._registry, multiprocess_mode="livemax")
        self._other(build).labels(version, platform.python_version()).set(1)

    def _other(self, metric: C) -> C:
        self.others.register(metric)
        return metric
