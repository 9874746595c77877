"""The operators' commands, in this process."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from typing import NamedTuple

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
    with chdir(os.sep), _logging_kept(), runner.isolation(stdin, defaults | settings) as (stdout, stderr, _):
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
