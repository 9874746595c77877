"""Poolers in transaction mode: of what a session is told, the next transaction's server knows nothing.

So what a connection asks for at its start goes with each message instead, at no further round trip.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from psycopg2 import OperationalError
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, cursor

_REFUSAL: Final = "unsupported startup parameter"  # PgBouncer's words
_STATEMENT_MODE: Final = "statement pooling mode"
_NO_TRANSACTIONS: Final = "the pooler refuses transactions, its pool_mode has to be transaction"
_WORD: Final = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
_LISTS: Final = frozenset({"search_path", "datestyle", "temp_tablespaces", "local_preload_libraries"})


def refuses_options(error: Exception) -> bool:
    return _REFUSAL in str(error)


def ignores_options(connection: Any, options: str) -> bool:
    """Whether it has lost them on the way. One round trip."""
    asked = [(name, value) for name, value in _settings(options) if name.endswith("_timeout")]
    connection.autocommit = True
    with connection.cursor() as asking:
        asking.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name, _ in asked))
        found = asking.fetchone()
    connection.autocommit = False
    return any(_is_off(value) != _is_off(given) for value, (_, given) in zip(found, asked, strict=True))


def _is_off(timeout: str) -> bool:
    return not re.search("[1-9]", timeout)


class NoTransactions(OperationalError):
    """The pooler is in statement mode."""


def check_transactions(connection: Any) -> None:
    """Two round trips. Raises OperationalError, and closes the connection, if a transaction cannot be."""
    connection.autocommit = True
    try:
        with connection.cursor() as trying:
            trying.execute("BEGIN")
            trying.execute("ROLLBACK")
    except OperationalError as error:
        connection.close()
        if _STATEMENT_MODE in str(error):
            raise NoTransactions(_NO_TRANSACTIONS) from error
        raise
    connection.autocommit = False


class LimitedCursor(cursor):
    """Each message outside of a transaction, BEGIN included, begins with the settings of its transaction.

    Several statements in one message are one transaction (PostgreSQL documentation, 54.2.2.1).
    """

    settings: str

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 — the base class's name
        order = query.decode() if isinstance(query, bytes) else query
        idle = self.connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        if idle and "CONCURRENTLY" not in order:  # that refuses to be one of several
            query = (self.settings if vars is None else self.settings.replace("%", "%%")) + order
        super().execute(query, vars)


def limited(options: str) -> type[LimitedCursor]:
    """A cursor that asks for these startup `options` (-c name=value) for each transaction."""
    orders = (f"SET LOCAL {name} = {_quoted(name, value)};" for name, value in _settings(options))
    return type("Limited", (LimitedCursor,), {"settings": "".join(orders)})


def is_pooled(connection: Any) -> bool:
    factory = connection.cursor_factory
    return isinstance(factory, type) and issubclass(factory, LimitedCursor)


def _settings(options: str) -> Iterator[tuple[str, str]]:
    """Words end at a space, a backslash keeps what follows it, and quotes mean nothing (libpq, `options`)."""
    for word in _WORD.findall(options):
        kept = re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
        name, given, value = kept.removeprefix("-c").removeprefix("--").partition("=")
        if given:
            yield name.replace("-", "_"), value


def _quoted(name: str, value: str) -> str:
    """A list has quotes around each of its parts."""
    parts = map(str.strip, value.split(",")) if name.lower() in _LISTS else [value]
    return ", ".join("'{}'".format(part.replace("'", "''")) for part in parts)
