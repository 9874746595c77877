"""How many replicas and cores a morning needs: a small queueing simulation.

`python -m benchmarks.simulate --users 10000000` answers for a number of users; `benchmarks.simulation_check`
holds the model against the service. It knows of a request what was measured: CPU of the worker, CPU of
PostgreSQL, and of a login its hash. It knows nothing of disks and of the network.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from random import Random
from statistics import quantiles

import simpy

from app.services.protection.hashing_slots import QUEUE_PER_SLOT

HASH_SLICE = 5.0  # ms for which a hash keeps a core that a request wants too
LOGIN = 2000.0  # ms within which 99 % are signed in
Steps = Generator[simpy.Event, None, None]


@dataclass(frozen=True)
class Cost:
    """CPU in milliseconds; `client` where the client shares the machine, as in a check."""

    worker: float
    database: float
    hash: float = 0.0
    client: float = 0.0


# Medians of the check and of `make bench`, two cores of a virtual machine in November 2026.
COSTS = {
    "me": Cost(0.40, 0.10),
    "refresh": Cost(0.60, 0.30),
    "login": Cost(1.6, 1.2, hash=240.0),
}


@dataclass(frozen=True)
class Morning:
    """The busiest minute: of the users of a day, so many come within its busiest hour."""

    users: int
    daily: float = 0.3
    in_busiest_hour: float = 0.4
    minute_to_mean: float = 1.5
    logging_in: float = 0.1
    refreshes_per_hour: float = 4
    reads_per_hour: float = 12

    def rates(self) -> dict[str, float]:
        """Requests a second. Who does not log in begins with a refresh."""
        coming = self.users * self.daily * self.in_busiest_hour
        arriving = coming / 3600 * self.minute_to_mean
        return {
            "login": arriving * self.logging_in,
            "refresh": arriving * (1 - self.logging_in) + coming * self.refreshes_per_hour / 3600,
            "me": coming * self.reads_per_hour / 3600,
        }


@dataclass
class Report:
    seconds: float
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    shed: Counter[str] = field(default_factory=Counter)
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Core milliseconds by what used them."""

    def rate(self, kind: str) -> float:
        return len(self.milliseconds[kind]) / self.seconds

    def quantile(self, kind: str, percent: int) -> float:
        times = self.milliseconds[kind]
        return quantiles(times, n=100)[percent - 1] if len(times) > 1 else 0.0


class Machine:
    """Cores: whoever serves a request comes before a hash, which gives its core up at the next slice."""

    def __init__(self, env: simpy.Environment, cores: int, report: Report) -> None:
        self.env, self.report = env, report
        self.cores = simpy.PriorityResource(env, cores)

    def work(self, milliseconds: float, what: str, priority: int = 0) -> Steps:
        with self.cores.request(priority=priority) as core:
            yield core
            yield self.env.timeout(milliseconds)
        self.report.busy[what] += milliseconds


class Replica:
    """Workers on a machine; each has an event loop, its share of the hashing threads, and their queue."""

    def __init__(self, env: simpy.Environment, machine: Machine, workers: int, cores: int) -> None:
        self.env, self.machine = env, machine
        slots = max(1, cores // workers)
        self.workers = [(simpy.Resource(env, 1), simpy.Resource(env, slots)) for _ in range(workers)]

    def loop(self, worker: int, milliseconds: float) -> Steps:
        with self.workers[worker][0].request() as loop:
            yield loop
            yield from self.machine.work(milliseconds, "workers")

    def hash(self, worker: int, milliseconds: float) -> Generator[simpy.Event, None, bool]:
        slots = self.workers[worker][1]
        if len(slots.queue) >= slots.capacity * QUEUE_PER_SLOT:
            return False
        with slots.request() as slot:
            yield slot
            while milliseconds > 0:
                yield from self.machine.work(min(HASH_SLICE, milliseconds), "hashes", priority=1)
                milliseconds -= HASH_SLICE
        return True


@dataclass
class Model:
    env: simpy.Environment
    replicas: list[Replica]
    database: Machine
    client: Replica | None
    random: Random
    report: Report

    def request(self, kind: str, cost: Cost) -> Steps:
        """Half of the worker's part is before the database's, half after it."""
        begin, replica = self.env.now, self.random.choice(self.replicas)
        worker = self.random.randrange(len(replica.workers))
        if self.client is not None:
            yield from self.client.loop(0, self._about(cost.client))
        yield from replica.loop(worker, self._about(cost.worker / 2))
        yield from self.database.work(self._about(cost.database), "database")
        if cost.hash and not (yield from replica.hash(worker, cost.hash)):
            self.report.shed[kind] += 1
            return
        yield from replica.loop(worker, self._about(cost.worker / 2))
        self.report.milliseconds[kind].append(self.env.now - begin)

    def arrivals(self, kind: str, rate: float, cost: Cost) -> Steps:
        """Nobody waits for anybody else."""
        while True:
            yield self.env.timeout(self.random.expovariate(rate / 1000))
            self.env.process(self.request(kind, cost))

    def client_of(self, kind: str, cost: Cost) -> Steps:
        """One that sends its next request upon the answer."""
        while True:
            yield from self.request(kind, cost)

    def _about(self, milliseconds: float) -> float:
        """Between constant (0) and exponential (1): a quarter of the variance."""
        return self.random.gammavariate(4, milliseconds / 4) if milliseconds else 0.0


@dataclass(frozen=True)
class Fleet:
    replicas: int
    cores: int = 2
    database_cores: int = 8
    workers: int = 2


def simulate(morning: Morning, fleet: Fleet, seconds: float, seed: int = 1) -> Report:
    """From an empty system, the first half is left out of the report."""
    env, report = simpy.Environment(), Report(seconds)
    replicas = [
        Replica(env, Machine(env, fleet.cores, report), fleet.workers, fleet.cores)
        for _ in range(fleet.replicas)
    ]
    database = Machine(env, fleet.database_cores, report)
    model = Model(env, replicas, database, None, Random(seed), report)
    for kind, rate in morning.rates().items():
        env.process(model.arrivals(kind, rate, COSTS[kind]))
    return _run(env, report)


def closed(costs: dict[str, tuple[int, Cost]], cores: int, seconds: float, seed: int = 1) -> Report:
    """One worker, PostgreSQL and one process of so many clients of each kind, on the same cores."""
    env, report = simpy.Environment(), Report(seconds)
    machine = Machine(env, cores, report)
    service, client = (Replica(env, machine, 1, cores) for _ in range(2))
    model = Model(env, [service], machine, client, Random(seed), report)
    for kind, (clients, cost) in costs.items():
        for _ in range(clients):
            env.process(model.client_of(kind, cost))
    return _run(env, report)


def _run(env: simpy.Environment, report: Report) -> Report:
    half = report.seconds * 1000
    env.run(until=half)
    for measured in (report.milliseconds, report.shed, report.busy):
        measured.clear()
    env.run(until=2 * half)
    return report


def lines(morning: Morning, fleet: Fleet, report: Report) -> Iterator[str]:
    rates = morning.rates()
    yield f"{morning.users:,} users, {fleet.replicas} replicas of {fleet.cores} cores"
    for kind, rate in rates.items():
        shed = report.shed[kind] / max(1, report.shed[kind] + len(report.milliseconds[kind]))
        yield (
            f"{kind:8}{rate:9,.0f}/s   p50 {report.quantile(kind, 50):9,.1f} ms"
            f"   p99 {report.quantile(kind, 99):9,.1f} ms   shed {shed:6.1%}"
        )
    mine = (report.busy["workers"] + report.busy["hashes"]) / report.seconds / 1000
    theirs = report.busy["database"] / report.seconds / 1000
    yield f"busy cores: {mine:.1f} of {fleet.replicas * fleet.cores} in replicas, {theirs:.1f} of PostgreSQL"


def enough(morning: Morning, fleet: Fleet, seconds: float, p99: float) -> Fleet:
    """The fewest replicas that shed nothing and answer within `p99` and `LOGIN`."""
    busy = sum(rate * (COSTS[kind].worker + COSTS[kind].hash) for kind, rate in morning.rates().items())
    fleet = replace(fleet, replicas=ceil(busy / 1000 / fleet.cores))
    while True:
        report = simulate(morning, fleet, seconds)
        late = any(report.quantile(kind, 99) > p99 for kind in ("me", "refresh"))
        if not (late or report.shed or report.quantile("login", 99) > LOGIN):
            return fleet
        fleet = replace(fleet, replicas=fleet.replicas + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="How many replicas and cores a morning needs.")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--replicas", type=int, help="otherwise as many as are enough")
    parser.add_argument("--cores", type=int, default=2, help="of a replica, each with a worker")
    parser.add_argument("--database-cores", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--p99", type=float, default=50, help="ms, of a refresh and a read")
    arguments = parser.parse_args()
    morning = Morning(arguments.users)
    fleet = Fleet(arguments.replicas or 1, arguments.cores, arguments.database_cores, arguments.cores)
    if not arguments.replicas:
        fleet = enough(morning, fleet, arguments.seconds, arguments.p99)
    print("\n".join(lines(morning, fleet, simulate(morning, fleet, arguments.seconds))))


if __name__ == "__main__":
    main()
