"""The PostgreSQL of a run of the tests, and the databases on it."""

import fcntl
import os
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import psutil
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Engine, create_engine, make_url, text

from app import devdb
from tests.support.waiting import PATIENCE_SECONDS, eventually

_FAST = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 1000
wal_level = minimal
max_wal_senders = 0
autovacuum = off"""
"""To copy files costs least at the minimal level; autovacuum would visit hundreds of databases by turns."""


_STALE_SECONDS = 3600
_PLENTY = 4 * 2**30  # a run takes a quarter of that


class MakeDatabase(Protocol):
    def __call__(self, *, migrated: bool = False) -> str:
        """The URL of a database that nobody else uses."""


def alembic_config(url: str) -> Config:
    config = Config(devdb.PROJECT / "alembic.ini")
    config.attributes["url"] = url
    return config


def look_into(url: str | URL) -> Engine:
    """For looking into a database past the service, each statement by itself."""
    return create_engine(url, isolation_level="AUTOCOMMIT")


def patient(url: str) -> str:
    """For a service that is to wait for a lock until the test gives it up, however busy the machine."""
    options = f"-c statement_timeout={PATIENCE_SECONDS}s -c lock_timeout={PATIENCE_SECONDS}s"
    return make_url(url).update_query_dict({"options": options}).render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True)
class Run:
    """What the processes of one run share, however many they are: one server, migrated once.

    The server is that of TEST_DATABASE_URL, or else one of the run's own: whoever needs it attaches, and
    it stops when the last of them is gone, however they died. Databases are copies of a template.
    """

    folder: Path

    @classmethod
    def begin(cls) -> "Run":
        folder = scratch()
        for left in folder.glob("kanban-auth-run-*"):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS and not _in_use(left):
                shutil.rmtree(left, ignore_errors=True)  # its run was killed
        return cls(folder / f"kanban-auth-run-{uuid4().hex[:12]}")

    @property
    def _prefix(self) -> str:
        return f"kanban_{self.folder.name[-12:]}_"

    @property
    def _template(self) -> str:
        return f"{self._prefix}template"

    @contextmanager
    def server(self) -> Iterator[URL]:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if given := _given():
            yield given
            return
        data = self.folder / "server"
        yield make_url(devdb.attach(data, _FAST)).set(drivername="postgresql+psycopg2")
        devdb.detach(data)

    def make_database(self, server: URL, maintenance: Engine, *, migrated: bool) -> str:
        name = f"{self._prefix}{uuid4().hex}"
        with maintenance.connect() as connection:
            if migrated:
                self._make_template(server, maintenance)
                copy = f"TEMPLATE {self._template} STRATEGY FILE_COPY"  # half the work of the default
                connection.execute(text(f"CREATE DATABASE {name} {copy}"))
            else:
                connection.execute(text(f"CREATE DATABASE {name}"))
        return _url_of(server, name)

    def _make_template(self, server: URL, maintenance: Engine) -> None:
        """The first who needs it does, and the others wait."""
        with open(self.folder / "template", "a+", encoding="ascii") as made:
            fcntl.flock(made, fcntl.LOCK_EX)
            if os.fstat(made.fileno()).st_size:
                return
            with maintenance.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {self._template}"))
            command.upgrade(alembic_config(_url_of(server, self._template)), "head")
            made.write("made\n")

    def clean_up(self) -> None:
        """By the process that began the run, when the others have ended."""
        if not self.folder.exists():
            return
        if given := _given():
            engine = look_into(given)
            with engine.connect() as connection:
                named = text("SELECT datname FROM pg_database WHERE starts_with(datname, :prefix)")
                for name in connection.scalars(named, {"prefix": self._prefix}).all():
                    connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            engine.dispose()
        eventually(lambda: not _in_use(self.folder))
        shutil.rmtree(self.folder)


def scratch() -> Path:
    """Memory, where there is plenty: to make a database is ten times faster there than on a disk."""
    memory = Path("/dev/shm")  # noqa: S108 — the folder in it has a name that nobody guesses
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _PLENTY:
        return memory
    return Path(tempfile.gettempdir())


def _in_use(folder: Path) -> bool:
    lock = folder / "server" / "keeper.lock"
    return lock.exists() and devdb._is_locked(lock)


def _given() -> URL | None:
    given = os.environ.get("TEST_DATABASE_URL")
    return make_url(given).set(drivername="postgresql+psycopg2") if given else None


def _url_of(server: URL, database: str) -> str:
    return server.set(database=database).render_as_string(hide_password=False)


class Freezable(ABC):
    """A server whose processes can stand still."""

    def __init__(self) -> None:
        self._frozen: list[psutil.Process] = []

    @abstractmethod
    def processes(self) -> list[psutil.Process]: ...

    def freeze(self) -> None:
        """It keeps its connections, takes new ones, and says nothing any more."""
        self._frozen = self.processes()
        for process in self._frozen:
            with suppress(psutil.NoSuchProcess):  # a connection's process that was about to end
                process.suspend()

    def thaw(self) -> None:
        for process in self._frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen = []


class OwnServer(Freezable):
    """A migrated server that a test may do anything to; the next one finds it sound again."""

    def __init__(self, data: Path) -> None:
        super().__init__()
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
        assert not psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)[1]

    def start_again(self) -> None:
        devdb.detach(self._data, timeout=PATIENCE_SECONDS)
        devdb.attach(self._data)

    def is_up(self) -> bool:
        try:
            return bool(self.processes()[0].name() == "postgres")
        except (FileNotFoundError, psutil.NoSuchProcess):
            return False

    def make_sound(self) -> None:
        self.thaw()
        if not self.is_up():
            self.start_again()

    def give_up(self) -> None:
        devdb.detach(self._data, timeout=PATIENCE_SECONDS)
