"""The operators' commands, in this process."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from typing import Any, NamedTuple, TextIO

import structlog
from typer.testing import CliRunner

from app.cli.__main__ import cli
from tests.support.settings import SECRET_KEY


class Ended(NamedTuple):
    """As `subprocess.CompletedProcess` tells it."""

    returncode: int
    stdout: str
    stderr: str


def run_command(database_url: str, *arguments: str, stdin: str = "", **settings: str) -> Ended:
    """`python -m app.cli` where there is no `.env`, without the second that a process takes to begin."""
    defaults = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET_KEY, "BCRYPT_ROUNDS": "10"}
    runner = CliRunner()
    isolation = runner.isolation(stdin, defaults | settings)
    with chdir(os.sep), isolation as (stdout, stderr, _), _logging_kept():
        sys.stdout, sys.stderr = _OfThisThread(sys.stdout), _OfThisThread(sys.stderr)
        try:
            cli(arguments, prog_name="python -m app.cli")
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
        if not isinstance(status, int):  # as the interpreter does
            print(status, file=sys.stderr)  # noqa: T201 — what a command ends with
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        return Ended(status, stdout.getvalue().decode(), stderr.getvalue().decode())


class _OfThisThread:
    """A stream that hears nothing of services in other threads, which log to where the command does."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, content: str) -> int:
        return self._stream.write(content) if threading.get_ident() == self._thread else len(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _logging_kept() -> Iterator[None]:
    """A command writes its log to its standard error; services of the tests do not."""
    root = logging.getLogger()
    level, handlers, configured = root.level, root.handlers[:], structlog.get_config()
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        structlog.configure(**configured)
