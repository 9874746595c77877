"""A table of users in another PostgreSQL database."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, TableClause, Text, cast, column, func, select, table

from app.database.engine import connect
from app.database.failures import DATABASE_ERRORS, describe
from app.services.accounts.imports import Row

_BATCH: Final = 1000
_READING: Final = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


class ForeignDatabaseFailed(Exception):
    """The message is the server's or libpq's."""


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """`columns` says for each of ours what it is called there."""

    connection: Connection
    table: TableClause
    columns: Mapping[str, str]

    def count(self) -> int:
        """Raises ForeignDatabaseFailed."""
        with _explained():
            return int(self.connection.scalar(select(func.count()).select_from(self.table)) or 0)

    def rows(self) -> Iterator[Row]:
        """With their numbers, from 1 on. They are fetched as they are read. Raises ForeignDatabaseFailed."""
        query = select(*(self._read(ours, theirs).label(ours) for ours, theirs in self.columns.items()))
        with _explained():
            found = self.connection.execution_options(yield_per=_BATCH).execute(query).mappings()
            yield from enumerate(found, start=1)

    def _read(self, ours: str, theirs: str) -> ColumnElement[Any]:
        """As text, since PostgreSQL has times that Python has not; but a hash may be `bytea`."""
        there = self.table.c[theirs]
        return there if ours == "hashed_password" else cast(there, Text)


@contextmanager
def open_foreign_table(url: str, name: str, columns: Mapping[str, str]) -> Iterator[ForeignTable]:
    """`name` may have its schema before it. Reads one state of the database, and can write nothing.

    Raises ForeignDatabaseFailed.
    """
    schema, _, own = name.rpartition(".")
    there = table(own, *map(column, sorted(set(columns.values()))), schema=schema or None)
    engine = connect(url, size=1)
    try:
        with _explained():
            connection = engine.connect().execution_options(**_READING)
        with connection:
            yield ForeignTable(connection, there, columns)
    finally:
        engine.dispose()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        raise ForeignDatabaseFailed(describe(error)) from None
