"""A migrated PostgreSQL for the whole run, and services on it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Engine, create_engine, make_url, text

from app import devdb
from app.application import create_app
from app.clock import Clock, utc_now
from app.config import Settings
from tests.support import Api, Serving, Started

for name in Settings.model_fields:  # the tests' settings are theirs alone
    os.environ.pop(name.upper(), None)

SECRET_KEY = "a secret key of the tests, and of nothing else"
FAST = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 300"

MakeDatabase = Callable[[], str]
MakeService = Callable[..., Api]
Start = Callable[..., Started]


@pytest.fixture(scope="session")
def server_url() -> Iterator[URL]:
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield make_url(given).set(drivername="postgresql+psycopg2")
        return
    data = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    yield make_url(devdb.attach(data, FAST)).set(drivername="postgresql+psycopg2")
    devdb.detach(data)
    shutil.rmtree(data)


@pytest.fixture(scope="session")
def make_database(server_url: URL) -> Iterator[MakeDatabase]:
    """Makes databases that are empty; they are dropped at the end."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    names: list[str] = []

    def make() -> str:
        names.append(f"kanban_test_{uuid4().hex}")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {names[-1]}"))
        return server_url.set(database=names[-1]).render_as_string(hide_password=False)

    yield make
    with engine.connect() as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def alembic_config(url: str) -> Config:
    config = Config(devdb.PROJECT / "alembic.ini")
    config.attributes["url"] = url
    return config


@pytest.fixture(scope="session")
def database_url(make_database: MakeDatabase) -> str:
    url = make_database()
    command.upgrade(alembic_config(url), "head")
    return url


@pytest.fixture(scope="session")
def engine(database_url: str) -> Iterator[Engine]:
    """For looking into the database, past the service."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def make_settings(**values: Any) -> Settings:
    defaults: dict[str, Any] = {
        "environment": "development",
        "secret_key": SECRET_KEY,
        "bcrypt_rounds": 4,
        "log_level": "ERROR",
        "cleanup_interval_seconds": 0,  # a clock that a test has moved would end the sessions of others
    }
    return Settings(_env_file=None, **(defaults | values))


@pytest.fixture(scope="session")
def start_service(database_url: str) -> Iterator[MakeService]:
    """Starts services with settings of their own; they stop, all at once, at the end of the run."""
    running: list[tuple[Serving, Api]] = []

    def start(*, clock: Clock = utc_now, **settings: Any) -> Api:
        app = create_app(make_settings(**({"database_url": database_url} | settings)), clock=clock)
        serving = Serving(app)
        running.append((serving, Api(serving.base_url, app)))
        return running[-1][1]

    yield start
    for serving, api in running:
        api.http.close()
        serving.ask_to_stop()
    for serving, _ in running:
        serving.join()


@pytest.fixture(scope="session")
def api(start_service: MakeService) -> Api:
    """The service as most tests need it."""
    return start_service()


class OwnServer:
    """A migrated server that a test may do anything to."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.url = devdb.attach(data)
        url = self.url.replace("postgresql:", "postgresql+psycopg2:")
        command.upgrade(alembic_config(url), "head")

    def processes(self) -> list[psutil.Process]:
        pid = int((self._data / "pg" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        return [psutil.Process(pid), *psutil.Process(pid).children()]

    def kill(self) -> None:
        """At once, without a farewell to anybody."""
        processes = self.processes()
        processes[0].send_signal(signal.SIGQUIT)
        assert not psutil.wait_procs(processes, timeout=20)[1]

    def start_again(self) -> None:
        devdb.detach(self._data)
        devdb.attach(self._data)


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    data = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    yield OwnServer(data)
    devdb.detach(data)
    shutil.rmtree(data)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Started] = []

    def start(database_url: str, *options: str, **settings: str) -> Started:
        environment = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET_KEY, "BCRYPT_ROUNDS": "4"}
        started.append(Started(tmp_path / f"output{len(started)}", *options, **(environment | settings)))
        return started[-1]

    yield start
    for each in started:
        with suppress(psutil.NoSuchProcess):
            each.process.terminate()
    for each in started:
        each.process.wait(30)


@pytest.fixture
def url(make_database: MakeDatabase) -> str:
    """A migrated database whose rows are this test's alone."""
    url = make_database()
    command.upgrade(alembic_config(url), "head")
    return url


@pytest.fixture
def inside(url: str) -> Iterator[Engine]:
    """For looking into that database, past the service."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()
