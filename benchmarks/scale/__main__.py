"""What requests cost at a thousand, a hundred thousand and ten million users: `make bench-scale`.

The databases stand side by side in one server, and the sizes are measured by turns, so that a slow phase of
the machine meets all of them. CPU is that of the worker and of its connections' processes in PostgreSQL.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import psycopg2

from app import devdb
from app.config import Settings
from benchmarks.bench import Line, Server, measure, serve
from benchmarks.scale import rotations, sweeps
from benchmarks.scale.paths import Population
from benchmarks.scale.server import start

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS", "1"))
BAR = 1.15


@dataclass
class Served(Server):
    """A worker, with the processes of its connections."""

    database: str

    def processes(self) -> list[int]:
        with psycopg2.connect(self.database) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return [*super().processes(), *(pid for (pid,) in cursor.fetchall())]


@dataclass
class Size:
    served: Served
    population: Population


def sizes(databases: dict[int, str], stack: ExitStack) -> Iterator[Size]:
    for users, url in databases.items():
        environment = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": url,
            "SECRET_KEY": secrets.token_hex(32),
            "BCRYPT_ROUNDS": "4",  # what a login costs beside its hash
            "LOG_LEVEL": "WARNING",
            "MAIL": "false",
            "CLEANUP_INTERVAL_SECONDS": "0",
            "THROTTLE_LOGIN_ADDRESS": "1000000/1s",
        }
        server = stack.enter_context(serve("app.main:app", environment))
        settings = Settings(_env_file=None, **{name.lower(): value for name, value in environment.items()})  # type: ignore[arg-type]
        population = Population(users, settings, Random(users))
        stack.callback(population.close)
        yield Size(Served(server.process, server.port, url), population)


def compare(every: list[Size]) -> None:
    """Medians, and the largest size beside the smallest: the median of the rounds' ratios."""
    print(f"{'':22}" + "".join(f"{size.population.users:>28,}" for size in every) + "   largest / smallest")
    print(f"{'ms':22}" + f"{'CPU':>10}{'p50':>9}{'p99':>9}" * len(every) + f"{'CPU':>10}{'p99':>8}")
    paths = [size.population.paths() for size in every]
    for name in paths[0]:
        for size, path in zip(every, paths, strict=True):
            measure(size.served, path[name], SECONDS)  # to warm up
        rounds = [
            [measure(size.served, path[name], SECONDS) for size, path in zip(every, paths, strict=True)]
            for _ in range(ROUNDS)
        ]
        columns = [_median(lines) for lines in zip(*rounds, strict=True)]
        cpu = median(lines[-1].cpu / lines[0].cpu for lines in rounds)
        p99 = median(lines[-1].p99 / lines[0].p99 for lines in rounds)
        figures = "".join(f"{line.cpu:10.2f}{line.p50:9.2f}{line.p99:9.2f}" for line in columns)
        print(
            f"{name:22}{figures}{cpu:10.2f}{p99:8.2f}  {'ok' if max(cpu, p99) <= BAR else 'MISS'}", flush=True
        )


def _median(lines: tuple[Line, ...]) -> Line:
    return Line(*(median(getattr(line, name) for line in lines) for name in ("rate", "p50", "p99", "cpu")))


def main() -> None:
    """With SCALE_DATA, the folder is kept and used again."""
    kept = os.environ.get("SCALE_DATA")
    data = Path(kept or tempfile.mkdtemp(prefix="kanban-scale-"))
    databases = start(data)
    try:
        with ExitStack() as stack:
            every = list(sizes(databases, stack))
            compare(every)
            sweeps.compare([size.population for size in every])
        rotations.measure(max(databases), databases[max(databases)])
    finally:
        devdb.detach(data, timeout=120)
        if not kept:
            shutil.rmtree(data)


if __name__ == "__main__":
    main()
