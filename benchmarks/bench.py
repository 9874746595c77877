"""Compares the service, with production settings and one or two workers, with its limits: `make bench`.

All candidates are measured in turn, for several rounds, and their medians are compared, because the
noise of the machine is often larger than the difference. CPU time is that of the server's processes.
"""

import asyncio
import compileall
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import bcrypt
import httpx
import uvloop

from app import devdb
from benchmarks.client import Request, Result, drive, get, log_in, refresh

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = 3.0
CONNECTIONS = 16
PASSWORD = "correct horse battery"  # noqa: S105 — protects nothing
# A user has a limited number of sessions, so that the logins of one would end the session of the other.
READER, LOGGER_IN = "ada@example.com", "grace@example.com"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int

    def processes(self) -> list[int]:
        """Process ids of the server and its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *map(int, children.read_text(encoding="ascii").split())]

    def cpu_seconds(self) -> float:
        return sum(map(_cpu_seconds, self.processes()))

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass
class Line:
    """`rate` is requests per second; `p50`, `p99` and `cpu` (per request) are milliseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


@contextmanager
def serve(
    app: str, environment: dict[str, str], workers: int = 1, *, limited: bool = True
) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
    command += ["--workers", str(workers)] if workers > 1 else []
    command += ["--http", "app.http.protocol:LimitedProtocol"] if limited else []
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    server = Server(process, port)
    try:
        wait_for(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def wait_for(server: Server) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            httpx.get(server.url("/docs"))
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"port {server.port} does not answer")


def measure(server: Server, prepare: Callable[[], list[Request]], seconds: float = SECONDS) -> Line:
    requests = prepare()
    cpu = server.cpu_seconds()
    result = run(server, requests, seconds)
    if result.refused > len(result.latencies):
        raise SystemExit(f"{result.refused} requests were refused; the figures would mean nothing")
    used = (server.cpu_seconds() - cpu) * 1000 / max(1, len(result.latencies) + result.refused)
    return Line(result.rate, result.p50, result.p99, used)


def run(server: Server, requests: list[Request], seconds: float, pause: float = 0) -> Result:
    return uvloop.run(drive(server.port, requests, seconds, pause))


def compare(*calls: Callable[[], Line]) -> list[Line]:
    """Medians. The calls alternate, so that a slow phase of the machine affects all of them."""
    rounds = [[call() for call in calls] for _ in range(ROUNDS)]
    return [
        Line(*(median(getattr(line, name) for line in lines) for name in ("rate", "p50", "p99", "cpu")))
        for lines in zip(*rounds, strict=True)
    ]


def bare_bcrypt(seconds: float = SECONDS) -> Line:
    """`rate` is hashes per second on all cores."""
    salt = bcrypt.gensalt(12)
    until = time.perf_counter() + seconds
    begin = time.perf_counter()

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            bcrypt.hashpw(PASSWORD.encode(), salt)
            done += 1
        return done

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as threads:
        hashes = sum(threads.map(work, range(cores)))
    rate = hashes / (time.perf_counter() - begin)
    return Line(rate, cores * 1000 / rate, cores * 1000 / rate, cores * 1000 / rate)


def row(name: str, line: Line) -> None:
    print(f"{name:34}{line.rate:10.1f}{line.p50:10.2f}{line.p99:10.2f}{line.cpu:12.3f}")


def verdict(name: str, value: float, bar: float, *, at_least: bool) -> None:
    good = value >= bar if at_least else value <= bar
    sign = ">=" if at_least else "<="
    print(f"{'ok  ' if good else 'MISS'} {name}: {value:.2f} (bar {sign} {bar})")


def pairs(service: Server, email: str, number: int) -> list[dict[str, str]]:
    form = {"username": email, "password": PASSWORD}
    return [httpx.post(service.url("/api/v1/token"), data=form).json() for _ in range(number)]


def scrape(service: Server) -> None:
    httpx.get(service.url("/metrics"))


def bench(service: Server, two: Server, unobserved: Server, limits: Server) -> None:
    scrape(service)  # as operators do from its start on: what that allocates is used again later
    for email in (READER, LOGGER_IN):
        httpx.post(service.url("/api/v1/users/"), json={"email": email, "password": PASSWORD}, timeout=10)
    access = pairs(service, READER, 1)[0]["access_token"]

    def many(request: Request) -> Callable[[], list[Request]]:
        return lambda: [request] * CONNECTIONS

    def rotating() -> list[Request]:
        return [refresh(pair["refresh_token"]) for pair in pairs(service, LOGGER_IN, CONNECTIONS)]

    print(f"{'':34}{'requests/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'CPU ms/req':>12}")
    static, select, health, me, unwatched, rotation, me_of_two = compare(
        lambda: measure(limits, many(get("/static"))),
        lambda: measure(limits, many(get("/select"))),
        lambda: measure(service, many(get("/api/v1/health"))),
        lambda: measure(service, many(get("/api/v1/me", access))),
        lambda: measure(unobserved, many(get("/api/v1/me", access))),
        lambda: measure(service, rotating),
        lambda: measure(two, many(get("/api/v1/me", access))),
    )
    hashing, token = compare(
        bare_bcrypt, lambda: measure(service, lambda: [log_in(LOGGER_IN, PASSWORD)] * 8, SECONDS * 2)
    )
    for name, line in [
        ("limit: same JSON", static),
        ("limit: same JSON, one SELECT", select),
        ("health", health),
        ("me", me),
        ("me without metrics and logs", unwatched),
        ("refresh", rotation),
        ("me, two workers", me_of_two),
        ("limit: bare bcrypt, all cores", hashing),
        ("token", token),
    ]:
        row(name, line)
    calm, storm = me_beside_logins(service, access)
    print(f"me, 4 clients at 50/s each: p99 {calm:.2f} ms calm, {storm:.2f} ms while logins queue")
    print(f"me, two workers / one, in requests/s: {me_of_two.rate / me.rate:.2f}")
    print()
    verdict("me / one SELECT", me.rate / select.rate, 1.15, at_least=True)
    verdict("refresh / one SELECT", rotation.rate / select.rate, 0.8, at_least=True)
    verdict("token / bare bcrypt", token.rate / hashing.rate, 0.95, at_least=True)
    verdict("metrics and logs of a me, CPU ms", me.cpu - unwatched.cpu, 0.1, at_least=False)
    verdict("me p99 while logins queue / calm", storm / calm, 1.5, at_least=False)
    verdict("me p99 while logins queue / one SELECT's", storm / select.p99, 0.5, at_least=False)
    # The client and PostgreSQL need cores too. With fewer than five, only CPU time shows the scaling.
    verdict("two workers / one, by CPU", 2 * me.cpu / me_of_two.cpu, 1.8, at_least=True)
    scrape(service)
    verdict("RSS of a worker that is scraped, MiB", service.rss_mib(), 105, at_least=False)


def bench_keys(service: Server, es256: Server, rs256: Server) -> None:
    """What it costs to sign with a private key, and to verify with a public one."""

    def rotating(server: Server) -> Callable[[], Line]:
        return lambda: measure(
            server, lambda: [refresh(pair["refresh_token"]) for pair in pairs(server, LOGGER_IN, CONNECTIONS)]
        )

    def reading(server: Server) -> Callable[[], Line]:
        access = pairs(server, READER, 1)[0]["access_token"]
        return lambda: measure(server, lambda: [get("/api/v1/me", access)] * CONNECTIONS)

    servers = {"HS256": service, "ES256": es256, "RS256": rs256}
    refreshes = dict(zip(servers, compare(*map(rotating, servers.values())), strict=True))
    readings = dict(zip(servers, compare(*map(reading, servers.values())), strict=True))
    live, key_set = compare(
        lambda: measure(es256, lambda: [get("/api/v1/health/live")] * CONNECTIONS),
        lambda: measure(es256, lambda: [get("/.well-known/jwks.json")] * CONNECTIONS),
    )
    for algorithm in servers:
        row(f"refresh, {algorithm}", refreshes[algorithm])
        row(f"me, {algorithm}", readings[algorithm])
    row("health/live", live)
    row("jwks.json", key_set)
    print()
    more = refreshes["ES256"].cpu - refreshes["HS256"].cpu
    verdict("refresh, ES256 beyond HS256, CPU ms", more, 0.15, at_least=False)
    verdict("jwks.json / health/live", key_set.rate / live.rate, 0.9, at_least=True)


def me_beside_logins(service: Server, access: str) -> tuple[float, float]:
    """The p99 of /me in milliseconds, first without and then with a queue of concurrent logins."""
    requests = [get("/api/v1/me", access)] * 4

    async def beside() -> Result:
        logins = asyncio.ensure_future(drive(service.port, [log_in(LOGGER_IN, PASSWORD)] * 20, SECONDS * 2))
        await asyncio.sleep(0.5)
        result = await drive(service.port, requests, SECONDS, pause=0.02)
        await logins
        return result

    rounds = [
        (run(service, requests, SECONDS, pause=0.02).p99, uvloop.run(beside()).p99) for _ in range(ROUNDS)
    ]
    return median(idle for idle, _ in rounds), median(busy for _, busy in rounds)


def main() -> None:
    data = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    url = devdb.attach(data)
    environment = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": url,
        "LIBPQ_URL": url,
        "SECRET_KEY": secrets.token_hex(32),
        "BCRYPT_ROUNDS": "12",
        "THROTTLE_LOGIN_ACCOUNT": "1000/1s",  # all logins are of one user, many of them at once
    }
    alembic = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(alembic, env=os.environ | environment, check=True)
    compileall.compile_dir("app", quiet=1)  # as in the image; who compiles at its start keeps 5 MiB for it
    with (
        serve("app.main:app", environment) as service,
        serve("app.main:app", environment, workers=2) as two,
        serve("benchmarks.unobserved:app", environment) as unobserved,
        serve("benchmarks.limits:app", environment, limited=False) as limits,
    ):
        bench(service, two, unobserved, limits)
    # Apart, as each server holds the keys of all that share its database.
    with (
        serve("app.main:app", environment) as service,
        serve("app.main:app", environment | {"JWT_ALGORITHM": "ES256"}) as es256,
        serve("app.main:app", environment | {"JWT_ALGORITHM": "RS256"}) as rs256,
    ):
        bench_keys(service, es256, rs256)
    devdb.detach(data)


if __name__ == "__main__":
    main()
