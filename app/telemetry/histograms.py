"""The histograms as text, of this process or of all workers.

They are most of what a scrape reads. prometheus-client parses and writes the labels of each sample every
time, although they never change; done once, a scrape costs an eighth.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from math import inf
from sys import intern
from typing import Any, Final, NamedTuple

from prometheus_client import Histogram
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.utils import floatToGoString
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
    zeros: bytes
    series: list[_Series]


_Expected = tuple[Histogram, tuple[str, ...]]


class HistogramText:
    def __init__(self) -> None:
        self._expected: dict[_Expected, None] = {}  # in order, and each once
        self._keys: frozenset[Key] | None = None
        self._families: list[_Family] = []

    def expect(self, histogram: Histogram, label_values: tuple[str, ...]) -> None:
        """A series that is written with zeros, and costs little memory, until something is observed."""
        self._expected[histogram, label_values] = None

    def write(self, pairs: Iterable[Pair]) -> Iterator[bytes]:
        """Pieces with the sums of each key, in what Prometheus's text format and OpenMetrics have in common.

        Half a megabyte in all, so whoever joins them does that once.
        """
        totals: defaultdict[Key, float] = defaultdict(float)
        for key, value in pairs:
            totals[key] += value
        if totals.keys() != self._keys:
            self._families = _lay_out(totals, self._expected)
            self._keys = frozenset(totals)
        for family in self._families:
            lines = [family.head]
            for series in family.series:
                number = 0.0
                for line, key in series.buckets:
                    number += totals[key]
                    lines.append(f"{line}{number}\n")
                lines.append(f"{series.count_line}{number}\n{series.sum_line}{totals[series.sum_key]}\n")
            yield "".join(lines).encode()
            yield family.zeros


def _identity(key: Key) -> Identity:
    if isinstance(key, LabelledValue):
        return key.identity()
    metric, _, labels, text = json.loads(key)
    return metric, labels, text


def _lay_out(keys: Iterable[Key], expected: Iterable[_Expected]) -> list[_Family]:
    heads, series = _observed(keys)
    zeros: defaultdict[str, list[bytes]] = defaultdict(list)
    for histogram, label_values in expected:
        name, labels = histogram._name, zip(histogram._labelnames, label_values, strict=True)  # noqa: SLF001 — there is no other way to them
        heads[name] = _head(name, histogram._documentation)  # noqa: SLF001 — likewise
        if (name, inner := _inner(labels)) not in series:
            zeros[name].append(_at_zero(name, inner, histogram._upper_bounds))  # noqa: SLF001 — likewise
    families = {name: _Family(head, b"".join(zeros[name]), []) for name, head in heads.items()}
    for (name, _), each in series.items():
        families[name].series.append(each)
    return list(families.values())


def _observed(keys: Iterable[Key]) -> tuple[dict[str, str], dict[tuple[str, str], _Series]]:
    """The head of each family, and each series by its family and its labels as they are written.

    A series is there once its last bucket is: the library adds the keys one by one to a worker's file.
    """
    heads: dict[str, str] = {}
    buckets: defaultdict[tuple[str, str], dict[float, tuple[str, Key]]] = defaultdict(dict)
    sums: dict[tuple[str, str], Key] = {}
    for key in keys:
        name, labels, text = _identity(key)
        heads[name] = _head(name, text)
        limit = labels.pop("le", None)
        series = name, _inner(labels.items())
        if limit is None:
            sums[series] = key
        else:
            buckets[series][float(limit)] = (_bucket(*series, limit), key)
    whole = {series: key for series, key in sums.items() if inf in buckets[series]}
    ordered = {series: [bucket for _, bucket in sorted(buckets[series].items())] for series in whole}
    return heads, {series: _Series(ordered[series], *_ends(*series), key) for series, key in whole.items()}


def _at_zero(name: str, inner: str, limits: Iterable[float]) -> bytes:
    texts = map(floatToGoString, limits)  # as the library writes them
    beginnings = *(_bucket(name, inner, limit) for limit in texts), *_ends(name, inner)
    return "".join(f"{beginning}0.0\n" for beginning in beginnings).encode()


def _head(name: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} histogram\n"


def _inner(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in sorted(labels))


def _bucket(name: str, inner: str, limit: str) -> str:
    return f'{name}_bucket{{{inner}{"," if inner else ""}le="{limit}"}} '


def _ends(name: str, inner: str) -> tuple[str, str]:
    outer = f"{{{inner}}}" if inner else ""
    return f"{name}_count{outer} ", f"{name}_sum{outer} "
