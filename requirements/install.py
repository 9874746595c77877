"""Make `.venv` hold what requirements/dev.txt pins, unless it does already: `make install`.

The stamp alone is believed. It goes before anything else changes and is written when all is installed, so
an install that was killed or failed is begun again.
"""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parent.parent
REQUIREMENTS: Final = PROJECT / "requirements" / "dev.txt"
VENV: Final = PROJECT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
STAMP: Final = VENV / "installed"


def main() -> None:
    if VENV.is_symlink():  # somebody keeps the environment elsewhere, and in order
        return
    with open(REQUIREMENTS, "rb+") as lock:  # NFS locks only what is open for writing
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            install(lock.fileno())


def is_installed() -> bool:
    return STAMP.exists() and STAMP.read_text(encoding="utf-8") == describe()


def describe() -> str:
    """What is wanted, and which Python it is for; a moved folder or an upgraded system is another one."""
    program = "import sys; print(sys.prefix, sys.implementation.cache_tag)"
    try:
        python = subprocess.check_output([PYTHON, "-Ic", program], stderr=subprocess.DEVNULL, text=True)
    except (OSError, subprocess.CalledProcessError):
        python = "does not run"
    return f"{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()} {python}"


def install(lock: int) -> None:
    print("Installing what poetry.lock pins into .venv ...", flush=True)
    STAMP.unlink(missing_ok=True)
    run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        lock,
        "Python's venv module is needed (on Debian and Ubuntu: apt install python3-venv)",
    )
    # What is never imported is never compiled: that halves the time.
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    pinned = ["--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS)]
    run([*pip, *pinned], lock, "Nothing is installed; the next make begins again.")
    STAMP.write_text(describe(), encoding="utf-8")


def run(command: list[str], lock: int, otherwise: str) -> None:
    """The command inherits the lock, and so keeps others out even when it outlives us."""
    try:
        subprocess.run(command, check=True, pass_fds=[lock])
    except subprocess.CalledProcessError:
        raise SystemExit(otherwise) from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
