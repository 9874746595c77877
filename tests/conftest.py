"""Databases on one PostgreSQL for the whole run, and services on them."""

import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, text

from app.models.declarative import Base
from app.security.passwords import PasswordHasher
from app.telemetry.logs import configure_logging
from tests.support import (
    PATIENCE_SECONDS,
    Api,
    EndedServer,
    Lines,
    MakeDatabase,
    MakeService,
    MovableClock,
    OwnServer,
    Run,
    Services,
    Started,
    StartProcess,
    forget_settings,
    look_into,
    processes,
)
from tests.support.clusters import Cluster, cluster
from tests.support.mailboxes import sending
from tests.support.metrics import whole
from tests.support.smtp import SmtpServer, smtp_server

forget_settings()
if sys.version_info < (3, 12) and "coverage" in sys.modules:
    # Coverage keeps weak references to greenlets. When two threads end at once, Python 3.11 calls back for
    # their main greenlets within one another, and traces the second call for ever.
    weakref.WeakKeyDictionary = dict  # type: ignore[assignment, misc]
_RUN = pytest.StashKey[Run]()
_PROCESSES = {"start_process", "start_lasting_process", "own_server"}
_TABLES = [table.name for table in Base.metadata.sorted_tables]
_LASTING = ("two_workers", "ended_server", "served")
_WAITING = ("test_database", "test_edge", "test_notices")


def pytest_configure(config: pytest.Config) -> None:
    told = getattr(config, "workerinput", {}).get("run")
    config.stash[_RUN] = Run(Path(told)) if told else Run.begin()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist's: what its worker processes hear from the one that controls them."""
    node.workerinput["run"] = str(node.config.stash[_RUN].folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three for each core, as many tests wait for what takes its time."""
    return 3 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a test asks for says whether it starts a program; those take longest.

    Each of pytest-xdist's processes begins with its share of them and of those that wait, so that no core is
    idle at the end. Tests of one lasting server stand together, so that few processes start it.
    """
    for item in items:
        if _PROCESSES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.process)
    starting = sorted(filter(_starts, items), key=_lasting_first)
    waiting = [item for item in items if not _starts(item) and _waits(item)]
    quick = [item for item in items if not _starts(item) and not _waits(item)]
    of = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    shares = ((_share(starting, n, of), waiting[n::of], _share(quick, n, of)) for n in range(of))
    items[:] = [item for share in shares for part in share for item in part]


def _starts(item: pytest.Item) -> bool:
    return item.get_closest_marker("process") is not None


def _waits(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None or item.path.stem in _WAITING


def _lasting_first(item: pytest.Item) -> list[bool]:
    return [name not in getattr(item, "fixturenames", ()) for name in _LASTING]


def _share(items: list[pytest.Item], number: int, of: int) -> list[pytest.Item]:
    return items[number * len(items) // of : (number + 1) * len(items) // of]


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[_RUN].clean_up()


@pytest.fixture(scope="session")
def server_url(pytestconfig: pytest.Config) -> Iterator[URL]:
    with pytestconfig.stash[_RUN].server() as url:
        yield url


@pytest.fixture(scope="session")
def make_database(pytestconfig: pytest.Config, server_url: URL) -> Iterator[MakeDatabase]:
    """Makes databases, which are gone when the run is over."""
    maintenance = look_into(server_url)

    def make(*, migrated: bool = False) -> str:
        return pytestconfig.stash[_RUN].make_database(server_url, maintenance, migrated=migrated)

    yield make
    maintenance.dispose()


@pytest.fixture(scope="session")
def database_url(make_database: MakeDatabase) -> str:
    """A database that the tests of this process share."""
    return make_database(migrated=True)


@pytest.fixture(scope="session")
def engine(database_url: str) -> Iterator[Engine]:
    """For looking into that database, past the service."""
    engine = look_into(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def fresh_database_url(make_database: MakeDatabase) -> str:
    """A migrated database whose rows are this test's alone."""
    return make_database(migrated=True)


@pytest.fixture
def fresh_database(fresh_database_url: str) -> Iterator[Engine]:
    """For looking into that database, past the service."""
    engine = look_into(fresh_database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def _services(database_url: str) -> Iterator[Services]:
    services = Services(database_url)
    yield services
    services.ask_to_stop()
    services.join()


@pytest.fixture
def start_service(_services: Services) -> Iterator[MakeService]:
    """Starts services with settings of their own, for one test."""
    yield _services.start
    _services.ask_to_stop()


@pytest.fixture(scope="module")
def modules_database_url(make_database: MakeDatabase) -> str:
    """Migrated, and of one module alone: whoever moves a clock confuses those who send others' mails."""
    return make_database(migrated=True)


@pytest.fixture(scope="module")
def modules_engine(modules_database_url: str) -> Iterator[Engine]:
    engine = look_into(modules_database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def server() -> Iterator[SmtpServer]:
    """Takes the mails of all services of the common database, as any of them may send those of another."""
    with smtp_server() as server:
        yield server


@pytest.fixture(scope="session")
def start_lasting_service(database_url: str) -> Iterator[MakeService]:
    """The same, for several tests."""
    services = Services(database_url)
    yield services.start
    services.ask_to_stop()
    services.join()


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(scope="module")
def mailing(
    start_lasting_service: MakeService, server: SmtpServer, clock: MovableClock, modules_database_url: str
) -> Api:
    """A service that sends mails, with a clock and a database of the module's own."""
    return start_lasting_service(clock=clock, database_url=modules_database_url, **sending(server))


@pytest.fixture(scope="session")
def api(start_lasting_service: MakeService) -> Api:
    """The service as most tests need it."""
    return start_lasting_service()


@pytest.fixture(scope="session")
def _sole_api(start_lasting_service: MakeService, make_database: MakeDatabase) -> Api:
    return start_lasting_service(database_url=make_database(migrated=True))


@pytest.fixture(scope="session")
def _sole_engine(_sole_api: Api) -> Iterator[Engine]:
    engine = look_into(_sole_api.container.settings.database_url.get_secret_value())
    yield engine
    engine.dispose()


@pytest.fixture
def sole_database(_sole_engine: Engine) -> Engine:
    """For looking into the database of `sole_api`."""
    with _sole_engine.connect() as connection:
        connection.execute(text("; ".join(f"DELETE FROM {name}" for name in reversed(_TABLES))))
    return _sole_engine


@pytest.fixture
def sole_api(_sole_api: Api, sole_database: Engine) -> Api:  # noqa: ARG001 — it empties the database
    """A service like `api` on a database whose rows are this test's alone."""
    return _sole_api


@pytest.fixture(scope="session")
def _expendable_server() -> Iterator[OwnServer]:
    with tempfile.TemporaryDirectory(prefix="kanban-auth-") as folder:
        server = OwnServer(Path(folder))
        yield server
        server.give_up()


@pytest.fixture
def own_server(_expendable_server: OwnServer) -> Iterator[OwnServer]:
    yield _expendable_server
    _expendable_server.make_sound()


@pytest.fixture(scope="module")
def _servers() -> Iterator[Cluster]:
    with cluster() as servers:
        yield servers


@pytest.fixture
def servers(_servers: Cluster) -> Iterator[Cluster]:
    """A primary and its standby, both sound; a test may do anything to them."""
    yield _servers
    _servers.heal()


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """Starts servers in processes of their own, for one test."""
    with processes(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def start_lasting_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartProcess]:
    """The same, for several tests."""
    with processes(tmp_path_factory.mktemp("processes")) as start:
        yield start


@pytest.fixture(scope="session")
def served(start_lasting_process: StartProcess, database_url: str) -> Started:
    """A server of one worker that no test ends."""
    return start_lasting_process(database_url).serves()


@pytest.fixture(scope="session")
def metrics_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two workers share their metrics."""
    return tmp_path_factory.mktemp("shared") / "metrics"


@pytest.fixture(scope="session")
def _two_workers(start_lasting_process: StartProcess, database_url: str, metrics_folder: Path) -> Started:
    settings = {"WEB_CONCURRENCY": "2", "PROMETHEUS_MULTIPROC_DIR": str(metrics_folder)}
    return start_lasting_process(database_url, **settings)


@pytest.fixture
def two_workers(_two_workers: Started) -> Started:
    """A server of two workers that no test ends; who takes one of them away gives it back."""
    return whole(_two_workers)


@pytest.fixture(scope="session")
def ended_server(
    start_lasting_process: StartProcess, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> EndedServer:
    """A server of two workers, which share their metrics where they do by themselves, and its end."""
    temporary = tmp_path_factory.mktemp("temporary")
    started = whole(start_lasting_process(database_url, WEB_CONCURRENCY="2", TMPDIR=str(temporary)))
    folders = list(temporary.glob("kanban-auth-metrics-*"))
    started.process.terminate()
    started.ends()
    return EndedServer(started.output, temporary, folders)


@pytest.fixture
def keys_are_read_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that start now look for changed keys ten times as often, so that a test waits less."""
    monkeypatch.setattr("app.background._KEY_SECONDS", 0.2)


@pytest.fixture
def busy_hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Once this is cleared, verifying a password takes until it is set."""
    free = threading.Event()
    free.set()
    verify = PasswordHasher.verify

    def wait_and_verify(self: PasswordHasher, password: str, hashed: str | None) -> bool:
        assert free.wait(PATIENCE_SECONDS)
        return verify(self, password, hashed)

    monkeypatch.setattr(PasswordHasher, "verify", wait_and_verify)
    yield free
    free.set()


@pytest.fixture
def lines(_services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """All services of a process log to the same; those of earlier tests are over."""
    _services.join()
    lines = Lines()
    monkeypatch.setattr("sys.stdout", lines)
    yield lines
    monkeypatch.undo()
    configure_logging(level="ERROR", json=False)
