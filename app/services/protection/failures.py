"""Counts wrong passwords in a row, where a crash of the database does not lift the limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, func, text
from sqlalchemy.dialects.postgresql import insert

from app.clock import Clock
from app.database.transactions import Database, Executor, Transaction
from app.errors import TooManyFailures
from app.models import ConsecutiveFailures
from app.services.protection.throttling import MOST_FAILURES, Charge, arrays

_counted = insert(ConsecutiveFailures).values(
    key=bindparam("key"), user_id=bindparam("user_id"), failures=1, failed_at=bindparam("failed_at")
)
_COUNT: Final = _counted.on_conflict_do_update(
    index_elements=[ConsecutiveFailures.key],
    set_={
        "failures": ConsecutiveFailures.failures + 1,
        "user_id": _counted.excluded.user_id,
        "failed_at": func.greatest(ConsecutiveFailures.failed_at, _counted.excluded.failed_at),
    },
).returning(ConsecutiveFailures.failures)
# Each is one message and one transaction, and locks as the charge does. The first one changes nothing if
# the last failure that is allowed was counted while the password was hashed.
_FORGIVE: Final = text("""
SELECT FROM throttles WHERE key = ANY(CAST(:keys AS bytea[])) ORDER BY key FOR UPDATE;
SELECT FROM consecutive_failures WHERE key = ANY(CAST(:forgiven AS bytea[])) ORDER BY key FOR UPDATE;
WITH closed AS (
    SELECT FROM consecutive_failures WHERE key = :counted AND failures >= :most
), given_back AS (
    UPDATE throttles SET tat = tat - period
    FROM unnest(CAST(:keys AS bytea[]), CAST(:periods AS interval[])) AS charged (key, period)
    WHERE throttles.key = charged.key AND NOT EXISTS (SELECT FROM closed)
), forgiven AS (
    DELETE FROM consecutive_failures
    WHERE key = ANY(CAST(:forgiven AS bytea[])) AND NOT EXISTS (SELECT FROM closed)
)
SELECT true FROM closed
""")
_FORGET: Final = text("""
SELECT FROM throttles WHERE key = ANY(CAST(:keys AS bytea[])) ORDER BY key FOR UPDATE;
SELECT FROM consecutive_failures WHERE key = ANY(CAST(:keys AS bytea[])) ORDER BY key FOR UPDATE;
DELETE FROM throttles WHERE key = ANY(CAST(:keys AS bytea[]));
DELETE FROM consecutive_failures WHERE key = ANY(CAST(:keys AS bytea[]))
""")


@dataclass(frozen=True, slots=True)
class FailureCounter:
    """Keys are those of the throttles' buckets."""

    db: Database
    clock: Clock

    def count(self, key: bytes, user_id: int | None) -> int:
        """So many in a row, with this one. `user_id` is None if there is no such account."""
        values = {"key": key, "user_id": user_id, "failed_at": self.clock()}
        return int(self.db.execute(_COUNT, values)[0].failures)

    def forgive(
        self, within: Executor, charges: Sequence[Charge], counted: bytes | None, forgiven: list[bytes]
    ) -> None:
        """Give the charges back, and begin anew to count for all of `forgiven`.

        Raises TooManyFailures, with nothing changed, if `counted` has failed too often by now.
        """
        state = {"counted": counted, "most": MOST_FAILURES, "forgiven": forgiven}
        if within.execute(_FORGIVE, arrays(charges) | state):
            raise TooManyFailures

    def forget(self, transaction: Transaction, keys: list[bytes]) -> None:
        """Also what was charged."""
        transaction.execute(_FORGET, {"keys": keys})
