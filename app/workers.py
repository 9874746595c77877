"""The workers of one server: which of them this process is, and the folder where they share their metrics.

Each worker holds a lock for as long as it lives, however it dies: on the folder a shared one, on its
place (0, 1, ...) an exclusive one. Who comes into a folder that nobody holds empties it; who takes the
place of a dead worker goes on with its counters.
"""

import fcntl
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, NoReturn

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_STARTUP_FAILURE: Final = 3  # uvicorn's word to its supervisor not to try again


@dataclass(frozen=True, slots=True)
class Worker:
    folder: Path
    place: int
    _leave: Callable[[], None]

    def is_alive(self, place: int) -> bool:
        descriptor = os.open(self.folder / f"{place}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            return not _lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def leave(self) -> None:
        """The last one takes the folder away."""
        self._leave()


def one_of_several(web_concurrency: int) -> bool:
    """Also when only the server's own options say so."""
    started_by_a_supervisor = multiprocessing.parent_process() is not None
    return web_concurrency > 1 or started_by_a_supervisor or bool(os.environ.get(FOLDER_VARIABLE))


def shared_folder() -> Path:
    """`PROMETHEUS_MULTIPROC_DIR`, or one of this server's own: all its workers have one parent."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    folder = Path(tempfile.gettempdir()) / f"kanban-auth-metrics-{os.geteuid()}-{os.getppid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def join() -> Worker:
    """Raises SystemExit, after a word on stderr, where the folder is not usable."""
    try:
        folder = shared_folder()
        entry = _enter(folder)
        place, lock = _take_place(folder)
    except OSError as error:
        _give_up(str(error))
    # Gauges tell of the worker that was here before.
    for gauge in folder.glob(f"gauge_*_{place}.db"):
        gauge.unlink()

    def leave() -> None:
        os.close(lock)
        if _lock(entry, fcntl.LOCK_EX):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(entry)

    return Worker(folder, place, leave)


def _enter(folder: Path) -> int:
    path = folder / "lock"
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor, fcntl.LOCK_EX):
            for left in folder.glob("*.db"):
                left.unlink()
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)  # the last one of before has just taken it away


def _take_place(folder: Path) -> tuple[int, int]:
    for place in count():
        descriptor = os.open(folder / f"{place}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor, fcntl.LOCK_EX):
            return place, descriptor
        os.close(descriptor)
    raise AssertionError


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _give_up(why: str) -> NoReturn:
    print(  # noqa: T201 — there may be no other way to say it yet
        f"The workers share their metrics in a folder: {why}; set {FOLDER_VARIABLE} to another one.",
        file=sys.stderr,
    )
    sys.exit(_STARTUP_FAILURE)
