"""The service under attack: `app.serve` with production settings and two workers, and who watches it."""

import asyncio
import multiprocessing
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import httpx
import psutil
import uvloop

WORKERS = 2
FILES = 1024  # as many as a process may have open in a usual shell
LIVE = "/api/v1/health/live"
MIB = 2**20
_ANSWER_SECONDS = 20
_START_SECONDS = 60


@dataclass(frozen=True)
class Target:
    process: psutil.Popen
    port: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=_ANSWER_SECONDS)

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if "spawn_main" in str(child.cmdline())]

    def memory_mib(self) -> dict[int, float]:
        """What each worker has in memory; its peak is counted from now on."""
        for worker in self.workers():
            Path(f"/proc/{worker.pid}/clear_refs").write_text("5", encoding="ascii")
        return {worker.pid: worker.memory_info().rss / MIB for worker in self.workers()}

    def peaks_mib(self) -> dict[int, float]:
        """The most that each worker had in memory since `memory_mib`."""
        return {worker.pid: _peak_mib(worker.pid) for worker in self.workers()}

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of the series of that name whose line contains `labels`, such as 'reason="invalid"'."""
        lines = httpx.get(self.url("/metrics"), timeout=_ANSWER_SECONDS).text.splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{")) and labels in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


Start = Callable[..., AbstractContextManager[Target]]
"""Starts the service with these settings; a context manager that gives a Target."""


def starter(database_url: str) -> Start:
    @contextmanager
    def start(**settings: str) -> Iterator[Target]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        production = {
            "ENVIRONMENT": "production",
            "DATABASE_URL": database_url,
            "SECRET_KEY": secrets.token_hex(32),
            "WEB_CONCURRENCY": str(WORKERS),
        }
        serve = [sys.executable, "-m", "app.serve", "--port", str(port)]
        process = psutil.Popen(
            ["/bin/sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh", *serve],
            env=os.environ | production | settings,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield _up(Target(process, port))
        finally:
            process.terminate()
            process.wait()

    return start


def _up(target: Target) -> Target:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and target.process.poll() is None:
        try:
            # Each worker has as many database connections; a scrape adds up the workers that are there.
            if target.metric("app_database_pool_size") == 10 * WORKERS:
                return target
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"port {target.port} does not answer")


@dataclass
class Health:
    """How `/health/live` answered, each time on a new connection; complete when the context has ended."""

    latencies: list[float]
    failed: int = 0

    @property
    def p99_ms(self) -> float:
        return quantiles(self.latencies, n=100)[98] * 1000


@contextmanager
def watched(target: Target) -> Iterator[Health]:
    """Asks for liveness all the time, from a process of its own."""
    health = Health([])
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    watcher = spawn.Process(target=_watch, args=(target.port, theirs))
    watcher.start()
    ours.recv()  # it has begun
    try:
        yield health
    finally:
        ours.send("stop")
        health.latencies, health.failed = ours.recv()
        watcher.join()


def _watch(port: int, controller: Connection) -> None:
    uvloop.run(_ask(port, controller))


async def _ask(port: int, controller: Connection) -> None:
    latencies: list[float] = []
    failed = 0
    controller.send("begun")
    while not controller.poll():
        begin = perf_counter()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {LIVE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            answer = b""
        if answer.startswith(b"HTTP/1.1 200"):
            latencies.append(perf_counter() - begin)
        else:
            failed += 1
        await asyncio.sleep(0.01)
    controller.send((latencies, failed))
