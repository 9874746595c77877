"""The workers of one server: the worker index of this process, and the folder with their shared metrics.

Each worker holds two file locks while it is alive: a shared lock on the folder and an exclusive lock on
its index (0, 1, ...). The kernel releases them when the process ends, even after a crash. A worker that
finds the folder unlocked empties it. A worker that takes the index of a dead worker continues its counters.
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
_STARTUP_FAILURE: Final = 3  # uvicorn's supervisor stops, instead of restarting the worker


@dataclass(frozen=True, slots=True)
class Worker:
    folder: Path
    index: int
    _leave: Callable[[], None]

    def files(self) -> list[Path]:
        """The metrics of all workers, including dead ones, of whose gauges nothing counts."""
        return [file for file in self.folder.glob("*.db") if self._counts(file)]

    def _counts(self, file: Path) -> bool:
        """False for gauges of dead workers, and for files that a starting worker just created or removed."""
        kind, _, index = file.stem.rpartition("_")
        try:
            if not file.stat().st_size:
                return False
        except FileNotFoundError:
            return False
        return not kind.startswith("gauge") or self.is_alive(int(index))

    def is_alive(self, index: int) -> bool:
        descriptor = os.open(self.folder / f"{index}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            return not _lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def pids(self) -> list[int]:
        """Of the workers that live."""
        return [
            int(file.read_text(encoding="ascii") or 0)
            for file in self.folder.glob("*.lock")
            if self.is_alive(int(file.stem))
        ]

    def leave(self) -> None:
        """Release the locks; the last worker deletes the folder."""
        self._leave()


def one_of_several(web_concurrency: int) -> bool:
    """Whether this server has several workers, because of our setting or of uvicorn's options."""
    started_by_a_supervisor = multiprocessing.parent_process() is not None
    return web_concurrency > 1 or started_by_a_supervisor or bool(os.environ.get(FOLDER_VARIABLE))


def shared_folder() -> Path:
    """`PROMETHEUS_MULTIPROC_DIR`, or a folder named after the process id of the workers' common parent."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    folder = Path(tempfile.gettempdir()) / f"kanban-auth-metrics-{os.geteuid()}-{os.getppid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def join() -> Worker:
    """Raises SystemExit, with a line on stderr, if the folder is not usable."""
    try:
        folder = shared_folder()
        entry = _enter(folder)
        index, lock = _take_index(folder)
    except OSError as error:
        _give_up(str(error))
    # These gauges belong to the previous worker with this index.
    for gauge in folder.glob(f"gauge_*_{index}.db"):
        gauge.unlink()

    def leave() -> None:
        os.close(lock)
        if _lock(entry, fcntl.LOCK_EX):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(entry)

    return Worker(folder, index, leave)


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
        os.close(descriptor)  # another worker has just deleted the folder


def _take_index(folder: Path) -> tuple[int, int]:
    for index in count():
        descriptor = os.open(folder / f"{index}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor, fcntl.LOCK_EX):
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return index, descriptor
        os.close(descriptor)
    raise AssertionError


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _give_up(why: str) -> NoReturn:
    print(  # noqa: T201 — logging may not be configured yet
        f"The workers share their metrics in a folder: {why}; set {FOLDER_VARIABLE} to another one.",
        file=sys.stderr,
    )
    sys.exit(_STARTUP_FAILURE)
