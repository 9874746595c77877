"""Reads that a standby may serve, once it shows all that was committed before they were asked for."""

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

import structlog
from sqlalchemy import Executable
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.database.failures import DATABASE_ERRORS, describe
from app.database.places import Place, place_of
from app.database.transactions import Database, Rows, Transaction
from app.errors import DatabaseUnavailable
from app.greenlets import pause

_LEFT_ALONE_SECONDS: Final = 5
_LEFT_ALONE_MOST_SECONDS: Final = 60
_PAUSE_SECONDS: Final = 0.01
_PAUSES: Final = 10

log = structlog.get_logger(__name__)


class StandbyReads:
    """Executes statements at a standby, or at the primary if the standby lags, is away or is not its own.

    The primary says where it is, and the standby has to be there. So nobody misses what they or anybody
    else had changed before, whichever worker they ask.
    """

    def __init__(self, primary: Database, standby: Database) -> None:
        self._primary = primary
        self._standby = standby
        self._left_alone = _LeftAlone()

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Raises DatabaseUnavailable if the primary is away."""
        if self._left_alone.ends():
            rows = self._ask(place_of(self._primary), statement, parameters)
            if rows is not None:
                return rows
        return self._primary.execute(statement, parameters)

    def _ask(
        self, primary: Place, statement: Executable, parameters: Mapping[str, Any] | None
    ) -> Rows | None:
        """None if the standby cannot tell, or has no connection free."""
        begun, rows = monotonic(), None
        try:
            with self._standby.transaction() as transaction:
                if _reaches(transaction, primary):
                    rows = transaction.execute(statement, parameters)
        except (DatabaseUnavailable, *DATABASE_ERRORS) as error:
            if isinstance(error.__cause__, PoolTimeout):
                return None
            if seconds := self._left_alone.begins(begun):
                log.warning("database.standby_away", reason=describe(error), seconds=seconds)
            return None
        self._left_alone = _LeftAlone()
        return rows


class _LeftAlone:
    """How long a server that failed is not asked: each time twice as long, as a frozen one costs seconds."""

    def __init__(self) -> None:
        self._seconds: float = 0
        self._since = self._until = 0.0

    def ends(self) -> bool:
        """Whether to ask it. Where it has failed, the others do not wait for what the first one finds."""
        if (now := monotonic()) < self._until:
            return False
        self._until = now + self._seconds
        return True

    def begins(self, asked_at: float) -> float:
        """For so many seconds; 0 where somebody else has found the same."""
        if asked_at < self._since:
            return 0
        self._seconds = min(2 * self._seconds or _LEFT_ALONE_SECONDS, _LEFT_ALONE_MOST_SECONDS)
        self._since = monotonic()
        self._until = self._since + self._seconds
        return self._seconds


def _reaches(standby: Transaction, primary: Place) -> bool:
    """A standby is mostly some milliseconds behind, so it has a tenth of a second.

    Raises DatabaseUnavailable if it never will.
    """
    for _ in range(_PAUSES):
        place = place_of(standby)
        if objection := place.objection(primary):
            raise DatabaseUnavailable(objection)
        if place.position >= primary.position:
            return True
        pause(_PAUSE_SECONDS)
    return False
