"""The way to start in production: wait for the database, migrate it, become the server.

python -m app.serve [OPTIONS OF UVICORN...]
"""

import os
import signal
import sys
import time
from typing import Final, NoReturn

import structlog
from alembic import command
from alembic.config import Config
from psycopg2 import extensions, extras
from sqlalchemy.exc import OperationalError

from app import workers
from app.config import Settings, load_settings
from app.database import connect, explain
from app.devdb import PROJECT
from app.logs import configure_logging

# What is being answered gets this long to end; orchestrators kill 10 s after their SIGTERM.
GRACE_SECONDS: Final = 8

log = structlog.get_logger()


def main(options: list[str]) -> NoReturn:
    """Raises SystemExit, with a line that says why, when the settings or the database are not usable."""
    settings = load_settings()
    # As process 1 of a container we get no signal that we do not handle.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    configure_logging(level=settings.log_level, json=settings.json_logs)
    if settings.web_concurrency > 1:
        workers.join().leave()  # here it ends the start; a worker that cannot is started again and again
    if settings.run_migrations:
        _wait_for_database(settings)
        _migrate()
    os.environ["LOG_FORMAT"] = "json" if settings.json_logs else "text"
    os.environ["WEB_CONCURRENCY"] = str(settings.web_concurrency)
    server = [
        *(sys.executable, "-m", "uvicorn", "app.main:app", "--no-server-header"),
        *("--timeout-graceful-shutdown", str(GRACE_SECONDS)),
        *("--log-config", str(PROJECT / "app" / "uvicorn.json")),
        *options,
    ]
    sys.stdout.flush()
    os.execv(server[0], server)


def _wait_for_database(settings: Settings) -> None:
    engine = connect(settings.database_url.get_secret_value())
    address = f"{engine.url.host or engine.url.query.get('host')}:{engine.url.port or 5432}"
    deadline = time.monotonic() + settings.database_wait_seconds
    problem = ""
    while True:
        try:
            with engine.connect():
                break
        except OperationalError as error:
            before, problem = problem, explain(error)
        if time.monotonic() > deadline:
            raise SystemExit(f"No database at {address} within {settings.database_wait_seconds} s: {problem}")
        if problem != before:
            log.warning("database.waiting", address=address, problem=problem)
        time.sleep(0.5)
    engine.dispose()


def _migrate() -> None:
    # Patient, as a migration may take its time, but without it no signal is seen while libpq waits.
    extensions.set_wait_callback(extras.wait_select)
    command.upgrade(Config(PROJECT / "alembic.ini"), "head")


if __name__ == "__main__":
    main(sys.argv[1:])
