"""Holds the simulation against the service on this machine: `make check-simulation`.

What a request costs is measured with few clients; the model then says what many of them, and several kinds
beside each other, will find, and that is measured too.
"""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import httpx
import psycopg2
import uvloop

from app import devdb
from app.security.passwords import PasswordHasher
from benchmarks.bench import LOGGER_IN, PASSWORD, READER, Server, _cpu_seconds, pairs, serve
from benchmarks.client import Request, Result, drive, get, log_in, refresh
from benchmarks.simulate import Cost, closed

POINTS: tuple[dict[str, int], ...] = (
    {"me": 16},
    {"refresh": 16},
    {"me": 8, "refresh": 8},
    {"login": 4},
)
_FIGURES = ("rate", "p50", "p99")
HASH_ROUNDS = 10
SECONDS = 2.0
ROUNDS = int(os.environ.get("ROUNDS", "5"))
BAR = 0.2


@dataclass
class Bench:
    server: Server
    database: str

    def requests(self, kind: str, number: int) -> list[Request]:
        if kind == "login":
            return [log_in(LOGGER_IN, PASSWORD)] * number
        if kind == "refresh":
            return [refresh(pair["refresh_token"]) for pair in pairs(self.server, READER, number)]
        return [get("/api/v1/me", pairs(self.server, READER, 1)[0]["access_token"])] * number

    def cost(self, kind: str, clients: int = 4) -> Cost:
        requests = self.requests(kind, clients)
        before = self._used()
        result = uvloop.run(drive(self.server.port, requests, SECONDS))
        used = [(after - earlier) * 1000 for earlier, after in zip(before, self._used(), strict=True)]
        worker, database, client = (milliseconds / len(result.latencies) for milliseconds in used)
        return Cost(worker, database, client=client)

    def _used(self) -> tuple[float, float, float]:
        """CPU seconds of the worker, of its connections' processes, and of this client."""
        with psycopg2.connect(self.database) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid()"
            )
            backends = sum(_cpu_seconds(pid) for (pid,) in cursor.fetchall())
        connection.close()
        return self.server.cpu_seconds(), backends, time.process_time()

    def run(self, clients: dict[str, int]) -> dict[str, Result]:
        """All kinds at once."""
        requests = {kind: self.requests(kind, number) for kind, number in clients.items()}

        async def together() -> list[Result]:
            return await asyncio.gather(
                *(drive(self.server.port, each, SECONDS) for each in requests.values())
            )

        return dict(zip(clients, uvloop.run(together()), strict=True))


def seconds_of_a_hash() -> float:
    """CPU."""
    hasher, begin = PasswordHasher(HASH_ROUNDS), time.thread_time()
    for _ in range(5):
        hasher.hash(PASSWORD)
    return (time.thread_time() - begin) / 5


def check() -> int:
    """The number of points that the model misses."""
    data = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    url = devdb.attach(data)
    environment = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": url,
        "SECRET_KEY": secrets.token_hex(32),
        "BCRYPT_ROUNDS": str(HASH_ROUNDS),
        "THROTTLES": "false",
        "SESSIONS_PER_USER": "1000",
    }
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(command, env=os.environ | environment, check=True)
    with serve("app.main:app", environment) as server:
        for email in (READER, LOGGER_IN):
            httpx.post(server.url("/api/v1/users/"), json={"email": email, "password": PASSWORD}, timeout=10)
        missed = compare(Bench(server, url))
    devdb.detach(data)
    return missed


def compare(bench: Bench) -> int:
    """Costs and points in turn, for several rounds, as the machine is never the same for long."""
    costs: dict[str, list[Cost]] = {kind: [] for kind in ("me", "refresh", "login")}
    found: list[list[dict[str, Result]]] = [[] for _ in POINTS]
    hashes = []
    for _ in range(ROUNDS):
        hashes.append(seconds_of_a_hash() * 1000)
        for kind, measured in costs.items():
            measured.append(bench.cost(kind))
        for point, results in zip(POINTS, found, strict=True):
            results.append(bench.run(point))
    middle = {kind: _middle(measured) for kind, measured in costs.items()}
    hashing = median(hashes)
    middle["login"] = replace(
        middle["login"], worker=max(0.0, middle["login"].worker - hashing), hash=hashing
    )
    for kind, cost in middle.items():
        print(f"{kind:8} {cost}")
    return sum(_judge(point, results, middle) for point, results in zip(POINTS, found, strict=True))


def _middle(costs: list[Cost]) -> Cost:
    worker, database, client = (
        median(getattr(cost, name) for cost in costs) for name in ("worker", "database", "client")
    )
    return Cost(worker, database, client=client)


def _judge(point: dict[str, int], results: list[dict[str, Result]], costs: dict[str, Cost]) -> int:
    """1 if rate or median time of any kind is further off than the bar."""
    report = closed(
        {kind: (clients, costs[kind]) for kind, clients in point.items()}, len(os.sched_getaffinity(0)), 10
    )
    errors = []
    for kind in point:
        rate, p50, p99 = (median(getattr(result[kind], name) for result in results) for name in _FIGURES)
        errors += [report.rate(kind) / rate - 1, report.quantile(kind, 50) / p50 - 1]
        print(
            f"{point}, {kind}: {rate:,.0f}/s measured, {report.rate(kind):,.0f}/s said;"
            f" p50 {p50:.1f} ms, {report.quantile(kind, 50):.1f} ms said;"
            f" p99 {p99:.1f} ms, {report.quantile(kind, 99):.1f} ms said"
        )
    worst = max(map(abs, errors))
    print(f"{'ok  ' if worst <= BAR else 'MISS'} off by {worst:.0%} at most (bar {BAR:.0%})", flush=True)
    return int(worst > BAR)


if __name__ == "__main__":
    sys.exit(check())
