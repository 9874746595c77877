"""Checks that the database answers, accepts writes, and has the columns that the code needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog
from psycopg2 import errorcodes
from sqlalchemy import String, column, func, select, table, text
from sqlalchemy.exc import ProgrammingError

from app.database.failures import sqlstate
from app.database.transactions import Database
from app.errors import DatabaseUnavailable, NotReady
from app.models import Base

log = structlog.get_logger(__name__)

_COLUMNS: Final = frozenset(
    f"{table.name}.{column.name}" for table in Base.metadata.tables.values() for column in table.columns
)
_SELECT_STATE: Final = select(
    column("version_num", String), func.current_setting("transaction_read_only").label("read_only")
).select_from(table("alembic_version"))
_SELECT_COLUMNS: Final = text(
    "SELECT relname || '.' || attname AS name"
    " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
    " WHERE attrelid = ANY (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)"
    " AND attnum > 0 AND NOT attisdropped"
).columns()


class Schema(NamedTuple):
    """`missing` lists columns; `revision` is None before the first migration."""

    revision: str | None
    is_behind: bool
    is_newer: bool
    missing: tuple[str, ...]
    read_only: bool


@dataclass(frozen=True, slots=True)
class HealthService:
    """`revisions` lists the revisions that the code knows, oldest first.

    `check_signing`, where tokens are issued, raises NotReady if none can be signed.
    """

    db: Database
    revisions: tuple[str, ...]
    check_signing: Callable[[], None] | None = None
    _verified_revisions: set[str | None] = field(default_factory=set)

    def check(self) -> None:
        """Raises DatabaseUnavailable, NotReady; logs the reason."""
        try:
            if problem := self.problem(self.schema()):
                raise NotReady(problem)
            if self.check_signing is not None:
                self.check_signing()
        except (DatabaseUnavailable, NotReady) as error:
            log.warning("health.unavailable", reason=error.reason)
            raise

    def problem(self, schema: Schema) -> str | None:
        """Why the service cannot use this database; None if it can."""
        if schema.is_behind:
            return f"the schema is at {schema.revision or 'nothing'}, the code needs {self.revisions[-1]}"
        if schema.missing:
            lacking = ", ".join(schema.missing[:3])
            return f"the schema at {schema.revision} lacks {lacking}; is it another project's?"
        return "the database is read-only" if schema.read_only else None

    def schema(self) -> Schema:
        """Raises DatabaseUnavailable."""
        revision, read_only = self._state()
        is_behind = revision is None or revision in self.revisions[:-1]
        missing = () if is_behind else self._missing(revision)
        return Schema(revision, is_behind, revision not in self.revisions, missing, read_only)

    def _state(self) -> tuple[str | None, bool]:
        """The revision, and whether the database is read-only."""
        try:
            rows = self.db.execute(_SELECT_STATE)
        except ProgrammingError as error:
            if sqlstate(error) == errorcodes.UNDEFINED_COLUMN:  # the table is not one of Alembic's
                return "unknown", False
            if sqlstate(error) != errorcodes.UNDEFINED_TABLE:
                raise
            rows = ()
        return (rows[0].version_num, rows[0].read_only == "on") if rows else (None, False)

    def _missing(self, revision: str | None) -> tuple[str, ...]:
        """Queries until no column is missing, then remembers the revision."""
        if revision in self._verified_revisions:
            return ()
        tables = sorted(Base.metadata.tables)
        found = {row.name for row in self.db.execute(_SELECT_COLUMNS, {"tables": tables})}
        if not (missing := _COLUMNS - found):
            self._verified_revisions.add(revision)
        return tuple(sorted(missing))
