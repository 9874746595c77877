"""Reads that a standby may serve, once it shows all that was committed before they were asked for."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from sqlalchemy import Executable, text

from app.database.failures import DATABASE_ERRORS, describe
from app.database.transactions import Database, Rows, Transaction
from app.errors import DatabaseUnavailable
from app.greenlets import await_, in_greenlet

_RETRY_SECONDS: Final = 5
_PAUSE_SECONDS: Final = 0.01
_PAUSES: Final = 10

_SELECT_POSITION: Final = text("SELECT CAST(pg_current_wal_lsn() AS text)")
_SELECT_HAS: Final = text(
    "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= CAST(:position AS pg_lsn)"
)

log = structlog.get_logger(__name__)


class StandbyReads:
    """Executes statements at a standby, or at the primary if the standby lags or is away.

    The primary says how far it has written, and the standby has to be there. So nobody misses what they
    or anybody else had changed before, whichever worker they ask.
    """

    def __init__(self, primary: Database, standby: Database) -> None:
        self._primary = primary
        self._standby = standby
        self._away_until = 0.0

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Raises DatabaseUnavailable if the primary is away."""
        if time.monotonic() >= self._away_until:
            position = self._primary.execute(_SELECT_POSITION)[0][0]
            try:
                with self._standby.transaction() as transaction:
                    if _reaches(transaction, position):
                        return transaction.execute(statement, parameters)
            except (DatabaseUnavailable, *DATABASE_ERRORS) as error:
                log.warning("database.standby_away", reason=describe(error))
                self._away_until = time.monotonic() + _RETRY_SECONDS
        return self._primary.execute(statement, parameters)


def _reaches(standby: Transaction, position: str) -> bool:
    """A standby is mostly some milliseconds behind, so it has a tenth of a second."""
    for _ in range(_PAUSES):
        if standby.execute(_SELECT_HAS, {"position": position})[0][0]:
            return True
        if in_greenlet():
            await_(asyncio.sleep(_PAUSE_SECONDS))
        else:
            time.sleep(_PAUSE_SECONDS)
    return False
