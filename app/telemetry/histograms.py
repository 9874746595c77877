"""The histograms as text, of this process or of all workers.

They are most of what a scrape reads. prometheus-client parses and writes the labels of each sample every
time, although they never change; done once, a scrape costs an eighth.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final, NamedTuple

from prometheus_client import Histogram
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.values import MutexValue

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


Pair = tuple[str, float]
"""The key of a sample, its name and labels in JSON; its value. A bucket holds what is in no smaller one."""


class KeyedValue(MutexValue):
    """prometheus-client's value of one process, with the key that it would have in the file of a worker."""

    def __init__(self, typ: str, *identity: Any, **rest: Any) -> None:
        super().__init__(typ, *identity, **rest)  # type: ignore[no-untyped-call] # is untyped
        self._identity = identity

    @cached_property
    def key(self) -> str:
        return str(mmap_key(*self._identity))


def pairs_in_files(files: Iterable[str]) -> Iterator[Pair]:
    """Of the files of several workers."""
    for file in files:
        for key, value, *_ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call] # is untyped
            yield key, value


def pairs_of(histograms: Iterable[Histogram]) -> Iterator[Pair]:
    """Of this process. To `collect` them would take ten times as long."""
    each: Any
    for each in histograms:
        children = each._metrics.values() if each._labelnames else [each]  # noqa: SLF001 — there is no other way to them
        for child in list(children):
            for value in (*child._buckets, child._sum):  # noqa: SLF001 — likewise
                yield value.key, value.get()


class _Series(NamedTuple):
    """Beginnings of lines, and the keys whose values follow."""

    buckets: list[tuple[str, str]]
    count_line: str
    sum_line: str
    sum_key: str


class _Family(NamedTuple):
    head: str
    series: list[_Series]


class HistogramText:
    def __init__(self) -> None:
        self._keys: frozenset[str] = frozenset()
        self._families: list[_Family] = []

    def write(self, pairs: Iterable[Pair]) -> str:
        """The sums of each key, in the part that Prometheus's text format and OpenMetrics have in common."""
        totals: defaultdict[str, float] = defaultdict(float)
        for key, value in pairs:
            totals[key] += value
        if totals.keys() != self._keys:
            self._families = _lay_out(totals)
            self._keys = frozenset(totals)
        lines = []
        for family in self._families:
            lines.append(family.head)
            for series in family.series:
                number = 0.0
                for line, key in series.buckets:
                    number += totals[key]
                    lines.append(f"{line}{number}\n")
                lines.append(f"{series.count_line}{number}\n{series.sum_line}{totals[series.sum_key]}\n")
        return "".join(lines)


def _lay_out(keys: Iterable[str]) -> list[_Family]:
    heads: dict[str, str] = {}
    buckets: defaultdict[tuple[str, str], dict[float, tuple[str, str]]] = defaultdict(dict)
    sums: dict[tuple[str, str], str] = {}
    for key in keys:
        name, _, labels, text = json.loads(key)
        heads[name] = f"# HELP {name} {text}\n# TYPE {name} histogram\n"
        limit = labels.pop("le", None)
        series = name, ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels.items())
        if limit is None:
            sums[series] = key
        else:
            inner = ",".join(filter(None, (series[1], f'le="{limit}"')))
            buckets[series][float(limit)] = (f"{name}_bucket{{{inner}}} ", key)
    families = {name: _Family(head, []) for name, head in heads.items()}
    for (name, labels), key in sums.items():
        ordered = [bucket for _, bucket in sorted(buckets[name, labels].items())]
        outer = f"{{{labels}}}" if labels else ""
        families[name].series.append(_Series(ordered, f"{name}_count{outer} ", f"{name}_sum{outer} ", key))
    return list(families.values())
