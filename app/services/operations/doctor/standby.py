"""The server of DATABASE_READ_URL, beside the primary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from app.database.failures import describe
from app.database.places import Place, place_of
from app.database.transactions import Database
from app.errors import DatabaseUnavailable
from app.services.operations.doctor.findings import Finding, ok, warning

SUBJECT: Final = "read database"

_IS_PAUSED: Final = text("SELECT pg_is_wal_replay_paused()")


@dataclass(frozen=True, slots=True)
class StandbyChecks:
    """Whatever is wrong with a standby is a warning, as the primary answers in its place."""

    primary: Database
    standby: Database | None

    def examine(self) -> Iterator[Finding]:
        """Nothing where none is set. Raises DatabaseUnavailable if the primary is away."""
        if self.standby is None:
            return
        primary = place_of(self.primary)
        try:
            yield self._compare(self.standby, primary)
        except DatabaseUnavailable as error:
            yield warning(SUBJECT, f"does not answer, so the primary does: {describe(error)}")

    def _compare(self, standby: Database, primary: Place) -> Finding:
        place = place_of(standby)
        if objection := place.objection(primary):
            return warning(SUBJECT, f"{objection}, so it is not asked")
        behind = max(primary.position - place.position, 0)
        if standby.execute(_IS_PAUSED)[0][0]:
            return warning(SUBJECT, f"has paused its replay, {behind} bytes behind")
        return ok(SUBJECT, f"a standby, {behind} bytes behind")
