"""The server of DATABASE_READ_URL, beside the primary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from app.database.failures import describe
from app.database.transactions import Database
from app.errors import DatabaseUnavailable
from app.services.operations.doctor.findings import Finding, ok, warning

SUBJECT: Final = "read database"

_POSITION: Final = text(
    "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text"
)
_STANDBY: Final = text(
    "SELECT pg_is_in_recovery() AS follows,"
    " CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused,"
    " CAST(greatest(CAST(:position AS pg_lsn) - pg_last_wal_replay_lsn(), 0) AS bigint) AS behind"
)


@dataclass(frozen=True, slots=True)
class StandbyChecks:
    """Whatever is wrong with a standby is a warning, as the primary answers in its place."""

    primary: Database
    standby: Database | None

    def examine(self) -> Iterator[Finding]:
        """Nothing where none is set. Raises DatabaseUnavailable if the primary is away."""
        if self.standby is None:
            return
        position = self.primary.execute(_POSITION)[0][0]
        try:
            found = self.standby.execute(_STANDBY, {"position": position})[0]
        except DatabaseUnavailable as error:
            yield warning(SUBJECT, f"does not answer, so the primary does: {describe(error)}")
            return
        if not found.follows:
            yield warning(SUBJECT, "is no standby, so it is not asked")
        elif found.paused:
            yield warning(SUBJECT, f"has paused its replay, {found.behind} bytes behind")
        else:
            yield ok(SUBJECT, f"a standby, {found.behind} bytes behind")
