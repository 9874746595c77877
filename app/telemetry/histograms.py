"""The histograms of all workers as text.

They are most of what a scrape reads. prometheus-client parses and writes the labels of each sample every
time, although they never change; done once, a scrape costs an eighth.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from prometheus_client.mmap_dict import MmapedDict

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Series(NamedTuple):
    """Beginnings of lines, and the keys whose values follow. A bucket holds what is in no smaller one."""

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

    def write(self, files: Iterable[str]) -> str:
        """Sums over the files, in the part that Prometheus's text format and OpenMetrics have in common."""
        totals: defaultdict[str, float] = defaultdict(float)
        for file in files:
            for key, value, *_ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call] # is untyped
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
