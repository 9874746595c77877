"""Creates, pools and checks connections to PostgreSQL."""

import select
from typing import Any, Final, cast

import psycopg2
from psycopg2.extensions import set_wait_callback
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from app.database import waiting
from app.database.connecting import Connector
from app.database.failures import FAILOVERS, sqlstate
from app.database.hosts import address_of
from app.database.pool import EventLoopPool, note_unfinished
from app.database.silence import SILENT
from app.database_settings import POOL_SIZE
from app.telemetry.labels import SQLSTATE_CLASSES
from app.telemetry.metrics import DatabaseMetrics

APPLICATION: Final = "kanban-auth"
POOL_TIMEOUT_SECONDS: Final = 3
SERVER_TIMEOUTS: Final = {
    "statement_timeout": f"{waiting.STATEMENT_TIMEOUT_SECONDS}s",
    "lock_timeout": "3s",
}


def connect(
    url: str, *, size: int = POOL_SIZE, pool: type[QueuePool] = QueuePool, patience: float | None = None
) -> Engine:
    """An engine in autocommit mode. It connects on first use, so the database may still be down.

    `patience` is for a free connection, in seconds.
    """
    parsed = make_url(url)
    engine = create_engine(
        parsed,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        poolclass=pool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS if patience is None else patience,
        pool_use_lifo=True,
        hide_parameters=True,
        use_native_hstore=False,  # True would cost one statement per new connection
        connect_args=_connect_args(parsed),
    )
    set_wait_callback(waiting.wait_for_server)
    _listen(engine)
    return engine


def _listen(engine: Engine) -> None:
    event.listen(engine, "do_connect", Connector())
    event.listen(engine, "handle_error", _judge_failure)
    event.listen(engine, "invalidate", note_unfinished)
    event.listen(engine, "checkin", _mark_idle)
    event.listen(engine, "checkout", _discard_closed_connection)
    if isinstance(engine.pool, EventLoopPool):
        # SQLAlchemy locks the setup of the first connection; asyncio=True makes this lock awaitable.
        event.listen(engine, "connect", lambda *_: None, asyncio=True)


def _connect_args(url: URL) -> dict[str, Any]:
    limits = " ".join(f"-c {name}={value}" for name, value in SERVER_TIMEOUTS.items())
    return {
        "application_name": APPLICATION,
        "connect_timeout": waiting.CONNECT_TIMEOUT_SECONDS,
        "tcp_user_timeout": 3000,
        "keepalives_idle": 30,
        "options": f"{limits} {url.query.get('options', '')}",
    }


def observe(engine: Engine, metrics: DatabaseMetrics) -> None:
    """Count connections in use, requests that wait for one, and errors by SQLSTATE class."""
    if isinstance(engine.pool, EventLoopPool):
        engine.pool.metrics = metrics
    event.listen(engine, "handle_error", lambda context: _count(context.original_exception, metrics))


def report_failure(engine: Engine, error: psycopg2.Error, connection: PoolProxiedConnection | None) -> None:
    """For what bypasses SQLAlchemy: counts the error, invalidates the pool after a disconnect.

    `connection` is None if it could not be opened.
    """
    pool = engine.pool
    if isinstance(pool, EventLoopPool) and pool.metrics is not None:
        _count(error, pool.metrics)
    if connection is None:
        return
    if isinstance(error, waiting.StatementUnfinished):
        connection.invalidate(error)
        return
    failed: Any = connection.dbapi_connection
    if sqlstate(error) in FAILOVERS or engine.dialect.is_disconnect(cast(Any, error), failed, None):
        pool._invalidate(connection, error)  # noqa: SLF001 — SQLAlchemy has no public API for it


def _count(error: BaseException | None, metrics: DatabaseMetrics) -> None:
    if isinstance(error, psycopg2.Error):
        state = sqlstate(error)
        known = state[:2] if state and state[:2] in SQLSTATE_CLASSES else "other"
        metrics.errors.labels(known if state else "none").inc()


def _judge_failure(context: ExceptionContext) -> None:
    """A failover ends all connections of the pool, an unfinished statement its own."""
    if isinstance(context.original_exception, waiting.StatementUnfinished):
        context.invalidate_pool_on_disconnect = False
    if sqlstate(context.original_exception) in FAILOVERS:
        context.is_disconnect = True


def _mark_idle(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info["idle"] = True


def _discard_closed_connection(connection: Any, entry: Any, _proxy: PoolProxiedConnection) -> None:
    """Refuse a connection that the server has closed: its socket is readable while it is idle.

    Detects a restart or a failover as reliably as a ping, but without the round trip. A server that has
    fallen silent since is not asked either.
    """
    if connection.closed:
        raise DisconnectionError
    if SILENT and SILENT.get(address_of(connection), 0) > entry.starttime:
        raise InvalidatePoolError
    if entry.info.pop("idle", False) and waiting.is_ready(connection.fileno(), select.POLLIN, 0):
        raise InvalidatePoolError
