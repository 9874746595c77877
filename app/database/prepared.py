"""Precompiled statements for hot paths: they skip the work that SQLAlchemy does for each execution."""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.dml import ReturningUpdate

_DIALECT: Final = PGDialect_psycopg2()  # type: ignore[no-untyped-call] # the constructor is untyped


class Prepared:
    """Compiled once. Only psycopg2 converts values, so no column may need a conversion by SQLAlchemy."""

    def __init__(self, statement: Select[Any] | ReturningUpdate[*tuple[Any, ...]]) -> None:
        self.statement = statement
        self.reads = isinstance(statement, Select)

    def run(self, connection: PoolProxiedConnection, parameters: Mapping[str, Any] | None) -> Sequence[Any]:
        """Returns named tuples. Raises psycopg2.Error."""
        cursor = connection.cursor()
        cursor.execute(self._sql, parameters)
        return [self._record(values) for values in cursor.fetchall()]

    @cached_property
    def _sql(self) -> str:
        return str(self.statement.compile(dialect=_DIALECT))

    @cached_property
    def _record(self) -> Callable[[Sequence[Any]], Any]:
        names = [str(column.name) for column in self.statement.exported_columns]
        record: Any = namedtuple("Record", names)  # type: ignore[misc] # noqa: PYI024 — the names are known only at run time
        make: Callable[[Sequence[Any]], Any] = record._make
        return make
