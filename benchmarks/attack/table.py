"""What an attack came to, as lines of a Markdown table."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`measured` says what was counted; `value` is that, and `bar` what it is held to."""

    attack: str
    measured: str
    value: str
    bar: str
    held: bool


def at_most(attack: str, measured: str, value: float, bar: float, unit: str = "") -> Row:
    return Row(attack, measured, f"{value:.4g}{unit}", f"≤ {bar:.4g}{unit}", value <= bar)


def at_least(attack: str, measured: str, value: float, bar: float, unit: str = "") -> Row:
    return Row(attack, measured, f"{value:.4g}{unit}", f"≥ {bar:.4g}{unit}", value >= bar)


def markdown(rows: Iterable[Row]) -> str:
    lines = ["| attack | measured | | bar | |", "|---|---|---|---|---|"]
    for row in rows:
        verdict = "held" if row.held else "**missed**"
        lines.append(f"| {row.attack} | {row.measured} | {row.value} | {row.bar} | {verdict} |")
    return "\n".join(lines)
