"""Whether the database can be worked with: it answers, and its schema is not older than the code."""

from dataclasses import dataclass
from typing import Final

import structlog
from psycopg2 import errorcodes
from sqlalchemy import String, column, select, table
from sqlalchemy.exc import ProgrammingError

from app.database import Database, sqlstate
from app.errors import DatabaseUnavailable, SchemaBehind

log = structlog.get_logger(__name__)

REVISIONS: Final = ("16977e70efd2", "1f68190ad385")
"""Those of `alembic/versions`, oldest first. What is none of them comes from a newer release, and is fine."""

_VERSION: Final = select(column("version_num", String)).select_from(table("alembic_version"))


def is_behind(revision: str | None) -> bool:
    return revision is None or revision in REVISIONS[:-1]


@dataclass(frozen=True, slots=True)
class HealthService:
    db: Database

    def check(self) -> None:
        """Raises DatabaseUnavailable, SchemaBehind; logs why."""
        try:
            revision = self.revision()
            if is_behind(revision):
                raise SchemaBehind(revision, REVISIONS[-1])
        except (DatabaseUnavailable, SchemaBehind) as error:
            log.warning("health.unavailable", reason=error.reason)
            raise

    def revision(self) -> str | None:
        """The schema's; None before the first migration. Raises DatabaseUnavailable."""
        try:
            rows = self.db.execute(_VERSION)
        except ProgrammingError as error:
            if sqlstate(error) != errorcodes.UNDEFINED_TABLE:
                raise
            return None
        return rows[0].version_num if rows else None
