"""Classifies the errors of PostgreSQL, psycopg2 and the pool, and translates them."""

from typing import Final, NoReturn

import psycopg2
from psycopg2 import errorcodes
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.database.waiting import StatementUnfinished
from app.errors import DatabaseUnavailable, WritesWait

# The server is shutting down or has become a standby: no connection in the pool is usable.
FAILOVERS: Final = frozenset({errorcodes.ADMIN_SHUTDOWN, errorcodes.READ_ONLY_SQL_TRANSACTION})
_CONFLICTS: Final = frozenset({errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED})


class NoTurn(PoolTimeout):
    """As many connections as may write are in use."""


DATABASE_ERRORS: Final = (PoolTimeout, DBAPIError, psycopg2.Error)


def sqlstate(error: BaseException) -> str | None:
    """Five characters (PostgreSQL documentation, Appendix A); None if the server sent no error."""
    return getattr(getattr(error, "orig", error), "pgcode", None)


def violated_constraint(error: DBAPIError) -> str | None:
    """The name of the constraint that a row violates; None for other errors."""
    diagnostics = getattr(error.orig, "diag", None)
    return getattr(diagnostics, "constraint_name", None)


def is_conflict(error: BaseException) -> bool:
    """Whether the same transaction may succeed if it is retried."""
    return sqlstate(error) in _CONFLICTS


def raise_translated(error: BaseException) -> NoReturn:
    """Raises DatabaseUnavailable if a later retry may succeed; otherwise raises `error` itself."""
    if isinstance(error, NoTurn):
        raise WritesWait("other writes wait") from error
    if isinstance(error, PoolTimeout):
        raise DatabaseUnavailable("no connection free") from error
    if is_conflict(error) or not _is_transient(error):
        raise error
    raise (WritesWait if _waits(error) else DatabaseUnavailable)(_reason(error)) from error


def retries_exhausted(error: BaseException) -> DatabaseUnavailable:
    return DatabaseUnavailable(_reason(error))


def describe(error: BaseException) -> str:
    """What the server or libpq says, for operators.

    Of the server only the first line: the others may quote a statement. libpq has a line for each host.
    """
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    lines = str(getattr(cause, "orig", None) or cause or error).strip().split("\n")
    if cause is not None and sqlstate(cause):
        return lines[0]
    return "; ".join(line for line in lines if not line[:1].isspace())


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if sqlstate(error) in FAILOVERS:
        return True
    passing = (OperationalError, InterfaceError, psycopg2.OperationalError, psycopg2.InterfaceError)
    return isinstance(error, passing)


def _waits(error: BaseException) -> bool:
    original = getattr(error, "orig", error)
    return isinstance(original, StatementUnfinished) or sqlstate(error) == errorcodes.LOCK_NOT_AVAILABLE


def _reason(error: BaseException) -> str:
    cause = getattr(error, "orig", error)
    return " ".join(filter(None, (type(cause).__name__, sqlstate(error))))
