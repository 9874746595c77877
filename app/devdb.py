"""The embedded PostgreSQL for development and tests, and the generated development key.

Every process that uses the server holds a shared lock on `users.lock`. A keeper process in its own
session starts the server, then waits for an exclusive lock on the same file. The kernel grants this lock
when the last user process has exited or crashed; then the keeper stops the server.
"""

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from app.devserver import Server

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / ".data"
_locks: dict[Path, int] = {}
_keepers: dict[Path, subprocess.Popen[str]] = {}


def secret_key(data: Path = DATA) -> str:
    """The development SECRET_KEY: generated once and stored in `secret_key` (mode 0600)."""
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
    """Start the server if it is not running, and return its URL. It runs at least until this process exits.

    `config` is appended to `postgresql.conf` when the data directory is created.
    Raises SystemExit with the server's error output if it does not start.
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


def detach(data: Path = DATA, *, timeout: float = 15) -> None:
    """Stop using the server. Returns when it has stopped, or after 1 s if other processes still use it."""
    os.close(_locks.pop(data))
    begin = time.monotonic()
    while _is_locked(data / "keeper.lock") and time.monotonic() < begin + timeout:
        if (data / "url").exists() and time.monotonic() > begin + 1:
            if keeper := _keepers.pop(data, None):
                keeper.returncode = 0  # it outlives this process, for the others
            return
        time.sleep(0.02)
    if keeper := _keepers.pop(data, None):
        keeper.wait(timeout)


def detach_all() -> None:
    for data in list(_locks):
        detach(data)


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
    """Run the server until the last process that uses it has exited."""
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
        # `keeper` first: a process that locks `users` next must see `keeper` unlocked and start a new one.
        os.close(keeper)
        os.close(users)


if __name__ == "__main__":
    keep(Path(sys.argv[2]), sys.argv[3])
