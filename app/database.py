"""The two ways to talk to PostgreSQL: one statement in autocommit, or a transaction."""

import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import psycopg2
import psycopg2.extensions
from prometheus_client import Counter, Gauge
from psycopg2 import errorcodes
from sqlalchemy import Connection, Engine, Executable, MetaData, Row, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from app.errors import DatabaseUnavailable
from app.metrics import SQLSTATE_CLASSES

POOL_SIZE: Final = 10
POOL_TIMEOUT_SECONDS: Final = 3
CONNECT_TIMEOUT_SECONDS: Final = 2
STATEMENT_TIMEOUT_SECONDS: Final = 5
# Ours must outlast the server's own, so that a slow statement is cancelled and only a silent server is left.
SILENCE_TIMEOUT_SECONDS: Final = STATEMENT_TIMEOUT_SECONDS + 2
ATTEMPTS: Final = 3

_CONFLICTS = {errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED}
# A server that shuts down or has become a standby: none of its connections is of use any more.
_FAILOVERS = {errorcodes.ADMIN_SHUTDOWN, errorcodes.READ_ONLY_SQL_TRANSACTION}

P = ParamSpec("P")
T = TypeVar("T")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ServerSilent(psycopg2.OperationalError):
    """Connected, perhaps, but nothing comes back."""


def _is_ready(descriptor: int, direction: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, direction)
    return bool(poll.poll(seconds * 1000))


def _wait(connection: psycopg2.extensions.connection) -> None:
    """Wait for the server, but not for ever: nothing in libpq ends the wait for a frozen one."""
    connecting = connection.status == psycopg2.extensions.STATUS_SETUP
    seconds = CONNECT_TIMEOUT_SECONDS if connecting else SILENCE_TIMEOUT_SECONDS
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        reading = state == psycopg2.extensions.POLL_READ
        if not _is_ready(connection.fileno(), select.POLLIN if reading else select.POLLOUT, seconds):
            raise ServerSilent("the database does not answer")


def connect(url: str) -> Engine:
    """An engine in autocommit. Connects lazily; needs no database to be there."""
    parsed = make_url(url)
    options = f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout=3s"
    engine = create_engine(
        parsed,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={
            "application_name": "kanban-auth",
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "tcp_user_timeout": 3000,
            "keepalives_idle": 30,
            "options": f"{options} {parsed.query.get('options', '')}",
        },
    )
    psycopg2.extensions.set_wait_callback(_wait)
    event.listen(engine, "handle_error", _drop_pool_on_failover)
    event.listen(engine, "checkin", _mark_idle)
    event.listen(engine, "checkout", _refuse_dead)
    return engine


def watch(engine: Engine, in_use: Gauge, errors: Counter) -> None:
    """Keep count of the connections in use, and of what fails, by the class of its SQLSTATE."""
    counted: set[ConnectionPoolEntry] = set()

    def taken(_: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        counted.add(entry)
        in_use.inc()

    def given_back(_: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        if entry in counted:  # one that was never connected is given back, too
            counted.remove(entry)
            in_use.dec()

    def failed(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, psycopg2.Error):
            state = context.original_exception.pgcode
            known = state[:2] if state and state[:2] in SQLSTATE_CLASSES else "other"
            errors.labels(known if state else "none").inc()

    event.listen(engine, "checkout", taken)
    event.listen(engine, "checkin", given_back)
    event.listen(engine, "handle_error", failed)


def sqlstate(error: DBAPIError) -> str | None:
    """The five characters of PostgreSQL's Appendix A; None when the server said nothing."""
    return getattr(error.orig, "pgcode", None)


def explain(error: BaseException) -> str:
    """What the server or libpq said, in a line, for operators."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    said = str(getattr(cause, "orig", None) or cause or error).strip()
    return said.partition("\n")[0]


def violated_constraint(error: DBAPIError) -> str | None:
    """The name of the constraint that refused a row."""
    diagnostics = getattr(error.orig, "diag", None)
    return getattr(diagnostics, "constraint_name", None)


def _drop_pool_on_failover(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "pgcode", None) in _FAILOVERS:
        context.is_disconnect = True


def _mark_idle(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info["idle"] = True


def _refuse_dead(
    connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """A server that went away has said so: the socket of an idle connection is readable.

    As good as a ping after a restart or a failover, without its round trip.
    """
    if entry.info.pop("idle", False) and _is_ready(connection.fileno(), select.POLLIN, 0):
        raise InvalidatePoolError


def _is_passing(error: PoolTimeout | DBAPIError) -> bool:
    """Whether trying again later may help; not for a mistake, nor for a conflict, tried again at once."""
    if isinstance(error, PoolTimeout) or error.connection_invalidated:
        return True
    return isinstance(error, OperationalError | InterfaceError) and sqlstate(error) not in _CONFLICTS


def _reason(error: PoolTimeout | DBAPIError) -> str:
    if isinstance(error, PoolTimeout):
        return "no connection free"
    return " ".join(filter(None, (type(error.orig).__name__, sqlstate(error))))


def retry_conflicts(work: Callable[P, T]) -> Callable[P, T]:
    """Do it again from its begin after a serialization failure or a deadlock.

    Raises DatabaseUnavailable when the conflict stays.
    """

    @wraps(work)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(ATTEMPTS):
            try:
                return work(*args, **kwargs)
            except DBAPIError as error:
                if sqlstate(error) not in _CONFLICTS:
                    raise
                conflict = error
        raise DatabaseUnavailable(_reason(conflict)) from conflict

    return attempt


@dataclass(frozen=True, slots=True)
class Database:
    engine: Engine

    @retry_conflicts
    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """One statement, committed when this returns; one round trip. Returns its rows.

        Raises DatabaseUnavailable where trying again later may help, as `transaction` does.
        """
        try:
            with self.engine.connect() as connection:
                result = connection.execute(statement, parameters)
                return result.all() if result.returns_rows else ()
        except (PoolTimeout, DBAPIError) as error:
            if _is_passing(error):
                raise DatabaseUnavailable(_reason(error)) from error
            raise

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Several statements that stand or fall together; wrap the caller in `retry_conflicts`."""
        isolated = self.engine.execution_options(isolation_level="READ COMMITTED")
        try:
            with isolated.begin() as connection:
                yield connection
        except (PoolTimeout, DBAPIError) as error:
            if _is_passing(error):
                raise DatabaseUnavailable(_reason(error)) from error
            raise
