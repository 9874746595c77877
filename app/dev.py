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
    os.environ["DATABASE_URL"] = settings.database_url.get_secret_value()
    os.environ["SECRET_KEY"] = settings.secret_key.get_secret_value()
    child = subprocess.Popen(command)

    def forward(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    # The terminal also sends Ctrl-C to the child, because it is in the same foreground process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, forward)
    status = child.wait()
    devdb.detach_all()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
