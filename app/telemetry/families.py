"""Creates metrics with the project's conventions."""

import platform
from collections.abc import Iterable, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Mode = Literal["livesum", "livemin", "livemostrecent"]


class Families:
    """Creates metrics in one registry; counters and gauges start with all their label values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, label: str, label_values: Iterable[str]) -> Counter:
        counter = Counter(name, text, (label,), registry=self._registry)
        for value in label_values:
            counter.labels(value)
        return counter

    def total(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self._registry)

    def gauge(self, name: str, text: str, mode: Mode = "livesum") -> Gauge:
        return Gauge(name, text, registry=self._registry, multiprocess_mode=mode)

    def gauges(
        self, name: str, text: str, label: str, label_values: Iterable[str], mode: Mode = "livesum"
    ) -> Gauge:
        gauge = Gauge(name, text, (label,), registry=self._registry, multiprocess_mode=mode)
        for value in label_values:
            gauge.labels(value)
        return gauge

    def histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def build_info(self, version: str) -> None:
        text, labels = "Always 1; the labels say what runs.", ("version", "python")
        build = Gauge("app_build_info", text, labels, registry=self._registry, multiprocess_mode="livemax")
        build.labels(version, platform.python_version()).set(1)
