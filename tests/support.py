"""What tests drive the service with: a real server on a real socket, and clients for it."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from fastapi import FastAPI

from app.devdb import PROJECT

PASSWORD = "correct horse battery"
_numbers = count()

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
}
"""For programs that a test starts: nothing of ours, so that they see the settings of the test alone."""


class MovableClock:
    """Stands still until it is moved; starts on a whole second."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **duration: float) -> None:
        self.now += timedelta(**duration)


class Serving:
    """The application in uvicorn, in a thread, on a free port."""

    def __init__(self, app: FastAPI) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def ask_to_stop(self) -> None:
        self._server.should_exit = True

    def join(self) -> None:
        self._thread.join()
        self._listener.close()


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Gives the base URL."""
    serving = Serving(app)
    try:
        yield serving.base_url
    finally:
        serving.ask_to_stop()
        serving.join()


def new_email() -> str:
    return f"user{next(_numbers)}@example.com"


def browser(base_url: str, **options: Any) -> httpx.Client:
    """Keeps cookies, as a browser does."""
    return httpx.Client(base_url=base_url, timeout=30, **options)


class Api:
    """A client without cookies that knows the service's calls."""

    def __init__(self, base_url: str, app: FastAPI) -> None:
        nobody: CookieJar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        limits = httpx.Limits(max_connections=100)
        self.base_url = base_url
        self.app = app
        self.http = httpx.Client(base_url=base_url, cookies=nobody, timeout=30, limits=limits)

    def register(self, email: str | None = None, password: str = PASSWORD) -> httpx.Response:
        body = {"email": email or new_email(), "password": password}
        return self.http.post("/api/v1/users/", json=body)

    def token(self, username: str, password: str = PASSWORD) -> httpx.Response:
        return self.http.post("/api/v1/token", data={"username": username, "password": password})

    def new_user(self) -> str:
        """The email of a registered user whose password is PASSWORD."""
        response = self.register()
        assert response.status_code == 201, response.text
        email: str = response.json()["email"]
        return email

    def log_in(self, email: str | None = None) -> dict[str, Any]:
        """A token pair, of a new user unless an email is given."""
        response = self.token(email or self.new_user())
        assert response.status_code == 200, response.text
        pair: dict[str, Any] = response.json()
        return pair

    def refresh(self, token: str, key: str | None = None) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.http.post("/api/v1/refresh", json={"refresh_token": token}, headers=headers)

    def me(self, access_token: str) -> httpx.Response:
        return self.http.get("/api/v1/me", headers=bearer(access_token))

    def log_out(self, access_token: str) -> httpx.Response:
        return self.http.post("/api/v1/logout", headers=bearer(access_token))

    def metric(self, name: str, **labels: str) -> float:
        value = self.app.state.services.metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"no {name} with {labels}"
        return float(value)


def bearer(access_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token}"}


def error_of(response: httpx.Response) -> tuple[int, str]:
    """Status and code, after a check of the shape that every error has."""
    body = response.json()
    assert set(body) == {"detail", "code"}
    return response.status_code, body["code"]


def at_once(number: int, call: Any) -> list[Any]:
    """Call from so many threads, all let go at the same moment; gives the results."""
    gate = threading.Barrier(number)

    def wait_and_call(index: int) -> Any:
        gate.wait()
        return call(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(wait_and_call, range(number)))


class Started:
    """`python -m app.serve` with these settings alone."""

    def __init__(self, output: Path, *options: str, **settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}"
        self._output = output
        with open(output, "w", encoding="utf-8") as file:
            self.process = psutil.Popen(
                [sys.executable, "-m", "app.serve", "--port", str(port), *options],
                cwd=PROJECT, env=CLEAN_ENVIRONMENT | settings, stdout=file, stderr=file,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"never {what}:\n{self.output}"
            with suppress(psutil.TimeoutExpired):
                pytest.fail(f"ended with {self.process.wait(0.05)}, not {what}:\n{self.output}")

    def answers(self, path: str = "/api/v1/health") -> int | None:
        with suppress(httpx.TransportError):
            return httpx.get(self.base_url + path, timeout=30).status_code
        return None

    def serves(self) -> "Started":
        self.wait_for(lambda: self.answers() == 200, "healthy")
        return self

    def post(self, path: str, **content: object) -> httpx.Response:
        return httpx.post(self.base_url + path, timeout=60, **content)  # type: ignore[arg-type]

    def register(self) -> httpx.Response:
        return self.post("/api/v1/users/", json={"email": new_email(), "password": PASSWORD})
