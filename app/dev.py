"""Runs a command with the development settings, and keeps PostgreSQL running until it exits.

python -m app.dev COMMAND...
"""

import os
import signal
import subprocess
import sys
from types import FrameType

from app import devdb
from app.config import load_settings


def run(command: list[str]) -> int:
    """Returns the command's exit status."""
    settings = load_settings()
    for name in ("DATABASE_URL_FILE", "SECRET_KEY_FILE"):
        os.environ.pop(name, None)  # they are read
    os.environ["DATABASE_URL"] = settings.database_url.get_secret_value()
    os.environ["SECRET_KEY"] = settings.secret_key.get_secret_value()
    # A process group of its own: of a signal to all, the child gets the one that is forwarded, and no other.
    child = subprocess.Popen(command, process_group=0)
    terminated = False

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal terminated
        if number == signal.SIGINT or not terminated:
            child.send_signal(number)
        terminated = terminated or number == signal.SIGTERM

    signal.signal(signal.SIGINT, forward)
    signal.signal(signal.SIGTERM, forward)  # make sends a second one; uvicorn's reloader hangs on two at once
    status = child.wait()
    devdb.detach_all()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
