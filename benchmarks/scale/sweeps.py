"""What a minute's clean-up costs where nothing is due."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter

from app.services.operations.cleanup import CleanupService
from benchmarks.scale.paths import Population

SWEEPS = 15


def compare(populations: list[Population]) -> None:
    """The table is read from one place to the next, so sweeps of one size differ."""
    cleanups = [population.container.cleanup for population in populations]
    rounds = [[_milliseconds(cleanup, turn) for cleanup in cleanups] for turn in range(SWEEPS)]
    columns = [median(times) for times in zip(*rounds, strict=True)]
    print(f"{'a sweep, ms':22}" + "".join(f"{time:28.1f}" for time in columns), flush=True)


def _milliseconds(cleanup: CleanupService, turn: int) -> float:
    now = datetime.now(UTC) + turn * timedelta(minutes=2)
    sweeper = replace(cleanup.sweeper, clock=lambda: now, interval=timedelta(minutes=1))
    begin = perf_counter()
    replace(cleanup, sweeper=sweeper).sweep()
    return (perf_counter() - begin) * 1000
