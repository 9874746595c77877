"""The histograms as text, of this process or of all workers.

They are most of what a scrape reads. prometheus-client parses and writes the labels of each sample every
time, although they never change; done once, a scrape costs an eighth.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from sys import intern
from typing import Any, Final, NamedTuple

from prometheus_client import Histogram
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.values import MutexValue

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


Identity = tuple[str, dict[str, str], str]
"""Name of a metric, labels and text. Of a histogram, the value without the label `le` is the sum."""


class LabelledValue(MutexValue):
    """prometheus-client's value of one process, which knows its labels. Small, as there are thousands."""

    __slots__ = ("_exemplar", "_label_names", "_label_values", "_lock", "_metric", "_text", "_value")

    def __init__(self, typ: str, *identity: Any, **rest: Any) -> None:
        super().__init__(typ, *identity, **rest)  # type: ignore[no-untyped-call] # is untyped
        self._metric, _, self._label_names, label_values, self._text = identity
        self._label_values = tuple(map(intern, label_values))

    def identity(self) -> Identity:
        return self._metric, dict(zip(self._label_names, self._label_values, strict=True)), self._text


Key = str | LabelledValue
"""What tells samples apart: their identity in JSON, as in a worker's file, or the value in this process."""
Pair = tuple[Key, float]
"""A sample. A bucket holds what is in no smaller one."""


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
                yield value, value.get()


class _Series(NamedTuple):
    """Beginnings of lines, and the keys whose values follow."""

    buckets: list[tuple[str, Key]]
    count_line: str
    sum_line: str
    sum_key: Key


class _Family(NamedTuple):
    head: str
    series: list[_Series]


class HistogramText:
    def __init__(self) -> None:
        self._keys: frozenset[Key] = frozenset()
        self._families: list[_Family] = []

    def write(self, pairs: Iterable[Pair]) -> str:
        """The sums of each key, in the part that Prometheus's text format and OpenMetrics have in common."""
        totals: defaultdict[Key, float] = defaultdict(float)
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


def _identity(key: Key) -> Identity:
    if isinstance(key, LabelledValue):
        return key.identity()
    metric, _, labels, text = json.loads(key)
    return metric, labels, text


def _lay_out(keys: Iterable[Key]) -> list[_Family]:
    heads: dict[str, str] = {}
    buckets: defaultdict[tuple[str, str], dict[float, tuple[str, Key]]] = defaultdict(dict)
    sums: dict[tuple[str, str], Key] = {}
    for key in keys:
        name, labels, text = _identity(key)
        heads[name] = f"# HELP {name} {text}\n# TYPE {name} histogram\n"
        limit = labels.pop("le", None)
        series = name, ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels.items())
        if limit is None:
            sums[series] = key
        else:
            inner = ",".join(filter(None, (series[1], f'le="{limit}"')))
            buckets[series][float(limit)] = (f"{name}_bucket{{{inner}}} ", key)
    families = {name: _Family(head, []) for name, head in heads.items()}
    for (name, inner), key in sums.items():
        ordered = [bucket for _, bucket in sorted(buckets[name, inner].items())]
        outer = f"{{{inner}}}" if inner else ""
        families[name].series.append(_Series(ordered, f"{name}_count{outer} ", f"{name}_sum{outer} ", key))
    return list(families.values())
