"""Runs the migrations: URL from the settings, one process at a time, and never long in anybody's way.

A statement that waits for a table's lock makes everybody wait who comes after it. So it waits for a moment
only; then its revision is rolled back and tried again, and meanwhile the others go on. Each revision is a
transaction of its own, and keeps its locks no longer than that. What takes long is done in an
`autocommit_block`, by statements that let others read and write meanwhile: no time limit counts for those.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import structlog
from alembic import context
from psycopg2 import errorcodes
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from app.config import load_settings
from app.database.connecting import Connector
from app.database.failures import describe, sqlstate
from app.database.poolers import is_pooled
from app.models import Base

ADVISORY_LOCK = 6_051_220_107  # must differ from all other advisory locks in the database
LOCK_TIMEOUT = "300ms"
BESIDE_OTHERS = re.compile(r"\b(CONCURRENTLY|VALIDATE\s+CONSTRAINT)\b", re.IGNORECASE)
"""Nobody waits behind these, and they wait for autovacuum, which gives way after a second."""
FAILURES = OperationalError, psycopg2.OperationalError
PAUSE_SECONDS = 1
ATTEMPTS = 120
TURN_SECONDS = 0.2
PAST_THE_POOLER = (
    "Through a pooler it needs two connections, and the role's timeouts count while indexes are built:"
    " set DATABASE_DIRECT_URL to the server's own address."
)

log = structlog.get_logger()


def run() -> None:
    engine = connect(context.config.attributes.get("url") or load_settings().migration_url)
    with alone(engine) as keeper:
        try:
            migrate_in_turns(engine)
        except FAILURES as error:
            if not is_pooled(keeper.connection.dbapi_connection):
                raise
            raise SystemExit(f"The migration failed: {describe(error)}. {PAST_THE_POOLER}") from None


def migrate_in_turns(engine: Engine) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            migrate(engine)
        except FAILURES as error:
            if sqlstate(error) not in {errorcodes.LOCK_NOT_AVAILABLE, errorcodes.DEADLOCK_DETECTED}:
                raise
            if attempt == 1:
                log.warning("migration.waiting", reason=describe(error))
            time.sleep(PAUSE_SECONDS)
        else:
            return
    raise SystemExit("The migration gives up: others hold locks on the tables that it changes.")


def connect(given: str) -> Engine:
    """Without the timeouts of the database role, as a migration may take long."""
    url = make_url(given)
    arguments = {
        "connect_timeout": 5,
        "application_name": "kanban-auth migrations",
        "options": f"{url.query.get('options', '')} -c statement_timeout=0 -c lock_timeout=0",
    }
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    event.listen(engine, "do_connect", Connector())
    event.listen(engine, "begin", _limit_transaction)
    event.listen(engine, "before_cursor_execute", _limit_statement, retval=True)
    return engine


@contextmanager
def alone(engine: Engine) -> Iterator[Connection]:
    """Holds a lock in a transaction on a connection of its own, as some statements refuse to run in one.

    Others ask again and again. Who waits for a lock has a snapshot, and CONCURRENTLY waits for snapshots:
    the two would wait for each other.
    """
    ask, key = text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK}
    with engine.connect() as keeper:
        if not keeper.scalar(ask, key):
            log.warning("migration.waiting", reason="another process migrates")
        while not keeper.scalar(ask, key):
            keeper.rollback()
            time.sleep(TURN_SECONDS)
        keeper.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield keeper


def migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=Base.metadata, transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()


def _is_autocommit(connection: Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def _limit_statement(
    connection: Connection, _cursor: object, statement: str, parameters: Any, *_: object
) -> tuple[str, Any]:
    """In one message the two are one transaction."""
    if _is_autocommit(connection) and not BESIDE_OTHERS.search(statement):
        statement = f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {statement}"
    return statement, parameters


def _limit_transaction(connection: Connection) -> None:
    if _is_autocommit(connection):
        return
    limits = f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
    connection.connection.cursor().execute(limits)  # through SQLAlchemy it would begin once more


if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    run()
