"""Production entry point: waits for the database, migrates it, then replaces this process with the server.

python -m app.serve [UVICORN_OPTIONS...]
python -m app.serve --migrate-only
"""

import os
import signal
import sys

if __name__ == "__main__":
    # Process 1 of a container receives only signals that it has a handler for, and the imports take a while.
    # It ends at once, as what is interrupted in a migration would only say in a traceback that it was.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os._exit(128 + number))

import time
from pathlib import Path
from typing import Final, NoReturn

import structlog
from psycopg2.extensions import set_wait_callback
from sqlalchemy.exc import OperationalError

from app.config import Settings, load_settings
from app.database.connecting import address
from app.database.engine import connect
from app.database.failures import describe
from app.database.revisions import known_revisions
from app.database.transactions import Database
from app.database.waiting import wait_as_long_as_it_takes
from app.foreign_settings import foreign_settings
from app.http.connections import raise_file_limit
from app.services.delivery.mail_templates import check_overrides
from app.services.operations.health import HealthService
from app.telemetry import workers
from app.telemetry.logs import configure_logging

# For requests in flight, after DRAIN_SECONDS. Orchestrators send SIGKILL 10 s after SIGTERM.
GRACE_SECONDS: Final = 8
MIGRATE_ONLY: Final = "--migrate-only"
# A worker that does not answer its supervisor for so long is killed; a busy machine may import for a while.
START_SECONDS: Final = 30
_LOG_CONFIG: Final = Path(__file__).with_name("uvicorn.json")

log = structlog.get_logger()


def main(options: list[str]) -> NoReturn:
    """Raises SystemExit with a one-line reason if the settings or the database are not usable."""
    settings = load_settings()
    configure_logging(level=settings.log_level, json=settings.json_logs)
    if foreign := foreign_settings(settings):
        log.warning("settings.foreign", ours=foreign)
    check_overrides(settings.mail_templates)  # here too: a worker that fails is started again and again
    if MIGRATE_ONLY in options:
        _migrate(settings)
        sys.exit()
    if settings.web_concurrency > 1:
        workers.join().leave()  # checks the shared folder before any worker starts
    if settings.run_migrations:
        _migrate(settings)
    raise_file_limit(settings.max_connections)
    os.environ["LOG_FORMAT"] = "json" if settings.json_logs else "text"
    os.environ["WEB_CONCURRENCY"] = str(settings.web_concurrency)
    server = [
        *(sys.executable, "-m", "app.server", "app.main:app", "--no-server-header"),
        *("--http", "app.http.protocol:LimitedProtocol", "--lifespan", "on"),
        *("--timeout-graceful-shutdown", str(GRACE_SECONDS)),
        *("--timeout-worker-healthcheck", str(START_SECONDS)),
        *("--log-config", str(_LOG_CONFIG)),
        *("--root-path", settings.public_path),
        *options,
    ]
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # until it has its handlers
    os.execv(server[0], server)


def _wait_for_database(settings: Settings) -> Database:
    engine = connect(settings.migration_url)
    where = address(engine.url)
    deadline = time.monotonic() + settings.database_wait_seconds
    problem = ""
    while True:
        try:
            with engine.connect():
                return Database(engine)
        except OperationalError as error:
            before, problem = problem, describe(error)
        if time.monotonic() > deadline:
            raise SystemExit(f"No database at {where} within {settings.database_wait_seconds} s: {problem}")
        if problem != before:
            log.warning("database.waiting", address=where, problem=problem)
        time.sleep(0.5)


def _migrate(settings: Settings) -> None:
    database = _wait_for_database(settings)
    health = HealthService(database, known_revisions())
    schema = health.schema()
    database.engine.dispose()
    if schema.missing:
        raise SystemExit(f"The database is not usable: {health.problem(schema)}")
    if not schema.is_behind:
        if schema.is_newer:
            log.warning("migration.skipped", revision=schema.revision, reason="made by a newer release")
        return
    from app.database.migrations import upgrade_to_head  # noqa: PLC0415 — Alembic takes 0.3 s to import

    set_wait_callback(wait_as_long_as_it_takes)
    upgrade_to_head()


if __name__ == "__main__":
    main(sys.argv[1:])
