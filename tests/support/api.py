"""What tests drive the service with: a real server on a real socket, and clients for it."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache, cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import count
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from app.application import create_app
from app.clock import Clock, utc_now
from app.container import Container
from app.database.engine import POOL_TIMEOUT_SECONDS
from app.greenlets import run_in_greenlet
from app.http.protocol import LimitedProtocol
from app.security.passwords import PasswordHasher
from app.services.operations.audit import Client
from tests.support.settings import make_settings
from tests.support.waiting import PATIENCE_SECONDS

PASSWORD = "correct horse battery"
HEALTH = "/api/v1/health"
LIVE = "/api/v1/health/live"
TOKEN_ENDPOINTS = ("/api/v1/token", "/api/v1/refresh")
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody; a context of httpx's own reads all of the world's authorities, for 20 ms a client."""
_numbers = count()


def new_email() -> str:
    return f"user{next(_numbers)}@example.com"


def client(base_url: str, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=base_url, timeout=PATIENCE_SECONDS, verify=_NO_TLS, **options)


def browser(base_url: str, **options: Any) -> httpx.Client:
    """Keeps cookies, as a browser does."""
    return client(base_url, **options)


def request(method: str, url: str, **content: Any) -> httpx.Response:
    """On a connection of its own."""
    return httpx.request(method, url, timeout=PATIENCE_SECONDS, verify=_NO_TLS, **content)


def bearer(access_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token}"}


def error_of(response: httpx.Response) -> tuple[int, str]:
    """Status and code, after a check of the shape that every error has."""
    body = response.json()
    of_oauth = {"error", "error_description"} if response.url.path in TOKEN_ENDPOINTS else set()
    assert set(body) == {"detail", "code"} | of_oauth
    return response.status_code, body["code"]


def metric_of(container: Container, name: str, **labels: str) -> float:
    families = container.metrics.registry.restricted_registry([name]).collect()  # all of them take 20 ms
    samples = [sample for family in families for sample in family.samples]
    values = [sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)]
    return float(values[0]) if values else _written(container, name, labels)


def _written(container: Container, name: str, labels: dict[str, str]) -> float:
    """Where nothing was observed a zero is written; something may be, since the look for it."""
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    text = container.metrics.exposition.write("")[0].decode()
    _, found, rest = text.partition(f"\n{name}{{{inner}}} ")
    assert found
    return float(rest[: rest.index("\n")])


_hash = PasswordHasher.hash  # as it is when no test has put another in its place


@cache
def _hash_of_password(rounds: int) -> str:
    return _hash(PasswordHasher(rounds), PASSWORD)


class Api:
    """A client without cookies that knows the service's calls."""

    def __init__(self, base_url: str, app: FastAPI) -> None:
        nobody: CookieJar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self.base_url = base_url
        self.app = app
        self.http = client(base_url, cookies=nobody, limits=httpx.Limits(max_connections=None))

    @property
    def container(self) -> Container:
        """The inside of the application, for the few tests that look there."""
        container: Container = self.app.state.container
        return container

    @cached_property
    def operator(self) -> Container:
        """The same services in this thread, as the command line has them."""
        return Container(self.container.settings, self.container.clock)

    def close(self) -> None:
        self.http.close()
        self.operator.close()

    def metric(self, name: str, **labels: str) -> float:
        return metric_of(self.container, name, **labels)

    def register(self, email: str | None = None, password: str = PASSWORD) -> httpx.Response:
        body = {"email": email or new_email(), "password": password}
        return self.http.post("/api/v1/users/", json=body)

    def token(self, username: str, password: str = PASSWORD) -> httpx.Response:
        return self.http.post("/api/v1/token", data={"username": username, "password": password})

    def new_user(self) -> str:
        """The email of a registered user whose password is PASSWORD.

        A registration by HTTP takes five times as long: for the request, the limits and the hash.
        """
        email, register = new_email(), self.container.registration._register
        hashed = _hash_of_password(self.container.settings.bcrypt_rounds)
        work = run_in_greenlet(register, email, hashed, Client("127.0.0.1", self.http.headers["User-Agent"]))
        asyncio.run_coroutine_threadsafe(work, self.app.state.loop.result()).result()
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


class _Server(uvicorn.Server):
    """Says on which event loop it runs."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.config.app.state.loop.set_result(asyncio.get_running_loop())  # type: ignore[union-attr]


class Serving:
    """The application in uvicorn, in a thread, on a free port."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        app.state.loop = Future[asyncio.AbstractEventLoop]()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        # Longer than clients keep a connection: who closes one first may reset the other's next request.
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            log_config=None,
            lifespan="on",
            timeout_keep_alive=PATIENCE_SECONDS,
            **options,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def ask_to_stop(self) -> None:
        self._server.should_exit = True

    def join(self) -> None:
        self._thread.join()
        self._listener.close()


@contextmanager
def serve(app: FastAPI, **options: Any) -> Iterator[str]:
    """Gives the base URL; the options are uvicorn's."""
    serving = Serving(app, **options)
    try:
        yield serving.base_url
    finally:
        serving.ask_to_stop()
        serving.join()


def _be_patient(app: FastAPI) -> None:
    """On a busy machine a request waits; one that is turned away for that says nothing of the code."""
    for engine in app.state.container.resources.engines:
        if engine.pool._timeout == POOL_TIMEOUT_SECONDS:  # and not what the test has set
            engine.pool._timeout = PATIENCE_SECONDS


MakeService = Callable[..., Api]


class Services:
    """Starts services with settings of their own, and stops them without waiting for that at each."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._running: list[tuple[Serving, Api]] = []
        self._stopping: list[Serving] = []

    def start(self, *, clock: Clock = utc_now, **settings: Any) -> Api:
        """Mails leave only if `smtp_url` is given: whoever shares a database shares its outbox."""
        given = {"database_url": self._database_url} | settings
        app = create_app(make_settings(**given), clock=clock)
        if "smtp_url" not in settings:
            app.state.container.mail_sender = None
        _be_patient(app)
        serving = Serving(app)
        self._running.append((serving, Api(serving.base_url, app)))
        return self._running[-1][1]

    def ask_to_stop(self) -> None:
        while self._running:
            serving, api = self._running.pop()
            api.close()
            serving.ask_to_stop()
            self._stopping.append(serving)

    def join(self) -> None:
        while self._stopping:
            self._stopping.pop().join()
