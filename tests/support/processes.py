"""Programs that tests start."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from app.devdb import PROJECT
from tests.support.api import HEALTH, PASSWORD, new_email, request
from tests.support.settings import SECRET_KEY, clean_environment
from tests.support.waiting import PATIENCE_SECONDS, eventually


@contextmanager
def reserved_port() -> Iterator[int]:
    """Nobody is given it by chance; a program that asks for it by its number gets it."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        if sys.platform != "linux":  # elsewhere a port is had by one alone, whether they listen or not
            reserved.close()
        yield port


class Started:
    """`python -m app.serve` with these settings alone, of this code or of another release's."""

    def __init__(
        self, output: Path, port: int, *options: str, project: Path = PROJECT, **settings: str
    ) -> None:
        self.base_url = f"http://127.0.0.1:{port}"
        self._output, self._project = output, project
        self._command = [sys.executable, "-m", "app.serve", "--port", str(port), *options]
        self._environment = clean_environment(**settings)
        self.start()

    def start(self, **changed: str) -> None:
        """Again, too, after its end."""
        self._environment |= changed
        with open(self._output, "a", encoding="utf-8") as file:
            self.process = psutil.Popen(
                self._command, cwd=self._project, env=self._environment, stdout=file, stderr=file
            )

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        def has_come() -> bool:
            if condition():
                return True
            with suppress(psutil.TimeoutExpired):
                pytest.fail(f"ended with {self.process.wait(0.05)}, not {what}:\n{self.output}")
            return False

        eventually(has_come, lambda: f"{what}\n{self.output}")

    def ends(self) -> int:
        """The status, when it has ended."""
        status: int = self.process.wait(PATIENCE_SECONDS)
        return status

    def workers(self) -> list[psutil.Process]:
        """Those that live, of a server that has several."""
        return [child for child in self.process.children() if _is_worker(child)]

    def wait_for_replacement(self, worker: psutil.Process) -> None:
        """Of one of two."""

        def is_replaced() -> bool:
            return worker not in (workers := self.workers()) and len(workers) == 2

        self.wait_for(is_replaced, f"another worker than {worker.pid}")

    def get(self, path: str) -> httpx.Response:
        return request("GET", self.base_url + path)

    def post(self, path: str, **content: object) -> httpx.Response:
        return request("POST", self.base_url + path, **content)

    def answers(self, path: str = HEALTH) -> int | None:
        with suppress(httpx.TransportError):
            return self.get(path).status_code
        return None

    def serves(self) -> "Started":
        self.wait_for(lambda: self.answers() == 200, "healthy")
        return self

    def register(self) -> httpx.Response:
        return self.post("/api/v1/users/", json={"email": new_email(), "password": PASSWORD})


def _is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # which may end while we ask
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in str(process.cmdline())
    return False


class EndedServer(NamedTuple):
    """What a server of two workers has left."""

    output: str
    temporary: Path
    folders_while_up: list[Path]

    def folders(self) -> list[Path]:
        return list(self.temporary.glob("kanban-auth-metrics-*"))


StartProcess = Callable[..., Started]


@contextmanager
def processes(folder: Path) -> Iterator[StartProcess]:
    """Starts servers, which are ended when this is left."""
    started: list[Started] = []

    with ExitStack() as ports:

        def start(database_url: str, *options: str, project: Path = PROJECT, **settings: str) -> Started:
            defaults = {
                "DATABASE_URL": database_url,
                "SECRET_KEY": SECRET_KEY,
                "BCRYPT_ROUNDS": "10",
                "THROTTLES": "false",
            }
            output, port = folder / f"output{len(started)}", ports.enter_context(reserved_port())
            started.append(Started(output, port, *options, project=project, **(defaults | settings)))
            return started[-1]

        yield start
        for each in started:
            with suppress(psutil.NoSuchProcess):
                each.process.terminate()
        for each in started:
            each.ends()
