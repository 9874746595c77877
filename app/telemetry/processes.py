"""What the kernel says of the workers' processes."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_START: Final = "process_start_time_seconds"


class Processes(Collector):
    """Sums over all workers that live; the start is that of the youngest. Nothing where there is no /proc."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for pid in self._pids():
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                known = families.setdefault(family.name, family)
                if known is family:
                    continue
                combine = max if family.name == _START else _sum
                known.samples = [
                    mine._replace(value=combine(mine.value, other.value))
                    for mine, other in zip(known.samples, family.samples, strict=True)
                ]
        return families.values()


def _sum(one: float, other: float) -> float:
    return one + other
