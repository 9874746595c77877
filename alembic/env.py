"""Runs the migrations: URL from the settings, one process at a time, and never long in anybody's way.

A statement that waits for a table's lock makes everybody wait who comes after it. So it waits for a moment
only; then the whole migration is rolled back and tried again, and meanwhile the others go on.
"""

import time

import structlog
from alembic import context
from psycopg2 import errorcodes
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from app.config import load_settings
from app.database.connecting import Connector
from app.database.failures import describe, sqlstate
from app.models import Base

ADVISORY_LOCK = 6_051_220_107  # must differ from all other advisory locks in the database
LOCK_TIMEOUT = "300ms"
PAUSE_SECONDS = 1
ATTEMPTS = 120

log = structlog.get_logger()


def run() -> None:
    url = context.config.attributes.get("url") or load_settings().migration_url
    options = {"connect_timeout": 5, "application_name": "kanban-auth migrations"}
    engine = create_engine(url, poolclass=NullPool, connect_args=options)
    event.listen(engine, "do_connect", Connector())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            migrate(engine)
        except OperationalError as error:
            if sqlstate(error) != errorcodes.LOCK_NOT_AVAILABLE:
                raise
            if attempt == 1:
                log.warning("migration.waiting", reason=describe(error))
            time.sleep(PAUSE_SECONDS)
        else:
            return
    raise SystemExit("The migration gives up: others hold locks on the tables that it changes.")


def migrate(engine: Engine) -> None:
    """Without the timeouts of the database role: a migration may take long, and waits for another one."""
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        context.configure(connection=connection, target_metadata=Base.metadata)
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    context.run_migrations()
else:
    run()
