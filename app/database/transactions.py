"""The two ways to execute SQL: a single statement in autocommit mode, or a transaction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from random import uniform
from typing import Any, Final, ParamSpec, Protocol, TypeVar

import psycopg2
from sqlalchemy import Connection, Engine, Executable, Row, SelectBase

from app.database.engine import report_failure
from app.database.failures import DATABASE_ERRORS, is_conflict, raise_translated, retries_exhausted
from app.database.pool import C, WriteTurns
from app.database.poolers import is_pooled
from app.database.prepared import Prepared
from app.greenlets import pause

ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.01, 0.05

P = ParamSpec("P")
T = TypeVar("T")
Rows = Sequence[Row[Any]]


class Executor(Protocol):
    """A `Database` or a `Transaction`, for code that accepts both."""

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows: ...


def retry_conflicts(work: Callable[P, T]) -> Callable[P, T]:
    """Retry the whole function after a serialization failure or a deadlock.

    Raises DatabaseUnavailable if all `ATTEMPTS` fail.
    """

    @wraps(work)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
        for number in range(ATTEMPTS):
            if number:  # at once, it might be back before the other one has taken the lock that it waits for
                pause(uniform(*_PAUSE_SECONDS))  # noqa: S311 — no secret
            try:
                return work(*args, **kwargs)
            except DATABASE_ERRORS as error:
                if not is_conflict(error):
                    raise
                conflict = error
        raise retries_exhausted(conflict) from conflict

    return attempt


class Transaction:
    """Statements that are committed together, or not at all."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._after_commit: list[Callable[[], object]] = []

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Rows:
        """Returns the statement's rows. Several parameter sets are sent in batches."""
        return _rows(self._connection, statement, parameters)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` after the commit; after a rollback it is not called."""
        self._after_commit.append(callback)

    def committed(self) -> None:
        for callback in self._after_commit:
            callback()


@dataclass(frozen=True, slots=True)
class Database:
    """With `direct`, prepared statements bypass SQLAlchemy and its event listeners.

    All but single SELECTs take `turns`; a text() is one if it has columns().
    """

    engine: Engine
    direct: bool = False
    turns: WriteTurns | None = None

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is between us and the server. Raises DatabaseUnavailable."""
        try:
            with self.engine.connect() as connection:
                return is_pooled(connection.connection.dbapi_connection)
        except DATABASE_ERRORS as error:
            raise_translated(error)

    @retry_conflicts
    def execute(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Executes one statement in autocommit mode, in one round trip, and returns its rows.

        Raises DatabaseUnavailable if a later retry may succeed.
        """
        try:
            if isinstance(statement, Prepared):
                if self.direct:
                    return self._execute_directly(statement, parameters)
                statement = statement.statement
            reads = isinstance(statement, SelectBase)
            with self._check_out(self.engine.connect, reads=reads) as connection:
                return _rows(connection, statement, parameters)
        except DATABASE_ERRORS as error:
            raise_translated(error)

    def _check_out(self, connect: Callable[[], C], *, reads: bool) -> C:
        if reads or self.turns is None:
            return connect()
        return self.turns.check_out(connect)

    def _execute_directly(self, statement: Prepared, parameters: Mapping[str, Any] | None) -> Rows:
        try:
            connection = self._check_out(self.engine.raw_connection, reads=statement.reads)
        except psycopg2.Error as error:
            report_failure(self.engine, error, None)
            raise
        try:
            return statement.run(connection, parameters)
        except psycopg2.Error as error:
            report_failure(self.engine, error, connection)
            raise
        except BaseException as error:  # cancelled: the connection may still receive our result
            connection.invalidate(error)
            raise
        finally:
            connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Raises DatabaseUnavailable if a later retry may succeed. Callers should use `retry_conflicts`."""
        try:
            with self._check_out(self.engine.connect, reads=False) as connection:
                transaction = Transaction(connection)
                with _begin(connection):
                    yield transaction
        except DATABASE_ERRORS as error:
            raise_translated(error)
        transaction.committed()


@contextmanager
def _begin(connection: Connection) -> Iterator[None]:
    """Sends BEGIN and COMMIT itself, because changing psycopg2's isolation level costs a round trip."""
    connection.exec_driver_sql("BEGIN")
    try:
        yield
    except BaseException:
        _roll_back(connection)
        raise
    connection.exec_driver_sql("COMMIT")


def _roll_back(connection: Connection) -> None:
    """Raises no database error, because it would hide the error that ended the transaction."""
    if connection.invalidated:
        return
    try:
        connection.exec_driver_sql("ROLLBACK")
    except DATABASE_ERRORS:
        if not connection.invalidated:
            connection.invalidate()  # it must not return to the pool with an open transaction


def _rows(connection: Connection, statement: Executable, parameters: Any) -> Rows:
    result = connection.execute(statement, parameters)
    return result.all() if result.returns_rows else ()
