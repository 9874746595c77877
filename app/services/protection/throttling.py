"""Limits how often something may be tried, for all replicas together: GCRA, with its state in PostgreSQL."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import DateTime, bindparam, text

from app.clock import Clock
from app.database.transactions import Database
from app.errors import ClientLeft, Conflict, TooManyFailures, TooManyRequests, Unauthenticated, Unavailable
from app.security.throttle_keys import ThrottleKeys
from app.services.operations.audit import Client
from app.setting_types import Rate
from app.telemetry.metrics import ThrottleMetrics

log = structlog.get_logger(__name__)

MOST_FAILURES: Final = 100  # in a row; NIST SP 800-63B-4 §3.2.2

# Two statements in one message: one round trip, one transaction. The first one locks the rows, in the
# order of their keys so that there is no deadlock, and changes none of them. The second one therefore
# sees all that others have charged, and charges every bucket or none. A row that is further ahead than any
# charge can bring it was written by a wrong clock, and counts for nothing.
_CHARGE: Final = text("""
INSERT INTO throttles (key, tat)
SELECT key, :now FROM unnest(CAST(:keys AS bytea[])) AS key ORDER BY key
ON CONFLICT (key) DO UPDATE SET tat = excluded.tat WHERE false;

WITH bucket AS (
    SELECT key, period, period * burst AS depth, CASE
        WHEN tat > :now + period * burst + interval '1 hour' THEN :now ELSE greatest(tat, :now) END AS used
    FROM throttles
    JOIN unnest(CAST(:keys AS bytea[]), CAST(:periods AS interval[]), CAST(:bursts AS integer[]))
        AS asked (key, period, burst) USING (key)
), verdict AS MATERIALIZED (
    SELECT key, used + period AS tat, used + period - depth - :now AS wait FROM bucket
), closed AS (
    SELECT FROM consecutive_failures WHERE key = :counted AND failures >= :most
), charged AS (
    UPDATE throttles SET tat = verdict.tat FROM verdict
    WHERE throttles.key = verdict.key AND NOT EXISTS (SELECT FROM closed)
      AND NOT EXISTS (SELECT FROM verdict WHERE wait > interval '0')
)
SELECT key, wait, EXISTS (SELECT FROM closed) AS closed FROM verdict
WHERE wait > interval '0' OR EXISTS (SELECT FROM closed)
ORDER BY wait DESC
""").bindparams(bindparam("now", type_=DateTime(timezone=True)))
_GIVE_BACK: Final = text("""
SELECT FROM throttles WHERE key = ANY(CAST(:keys AS bytea[])) ORDER BY key FOR UPDATE;
UPDATE throttles SET tat = tat - period
FROM unnest(CAST(:keys AS bytea[]), CAST(:periods AS interval[])) AS charged (key, period)
WHERE throttles.key = charged.key
""")
_NOT_OUR_DOING: Final = (Unauthenticated, Conflict, TooManyRequests, ClientLeft)


class Bucket(StrEnum):
    LOGIN_ADDRESS = "login_address"
    LOGIN_ACCOUNT = "login_account"
    LOGIN_DEVICE = "login_device"
    REGISTER_ADDRESS = "register_address"
    PROOF = "proof"
    RECOVER_ACCOUNT = "recover_account"
    RECOVER_ADDRESS = "recover_address"


class Charge(NamedTuple):
    bucket: str
    key: bytes
    rate: Rate


@dataclass(frozen=True, slots=True)
class ThrottleService:
    """Without `rates`, nothing is limited."""

    db: Database
    keys: ThrottleKeys
    rates: Mapping[Bucket, Rate]
    clock: Clock
    metrics: ThrottleMetrics

    def charges(self, wanted: Mapping[Bucket, str]) -> list[Charge]:
        """Each bucket with the value that it belongs to."""
        return [
            Charge(bucket, self.keys.of(bucket, value), self.rates[bucket])
            for bucket, value in wanted.items()
            if bucket in self.rates
        ]

    def charge(self, charges: Sequence[Charge], counted: bytes | None = None) -> None:
        """Charge all or none.

        Raises TooManyRequests with the true wait; TooManyFailures if `counted` has failed `MOST_FAILURES`
        times in a row.
        """
        if not charges:
            return
        parameters = {"now": self.clock(), "counted": counted, "most": MOST_FAILURES, **arrays(charges)}
        refusals = self.db.execute(_CHARGE, parameters)
        if not refusals:
            return
        refusal = refusals[0]
        if refusal.closed:
            raise TooManyFailures
        bucket = next(charge.bucket for charge in charges if charge.key == bytes(refusal.key))
        raise TooManyRequests(bucket, -(-refusal.wait // timedelta(seconds=1)))

    @contextmanager
    def undone_if_unserved(self, charges: Sequence[Charge]) -> Iterator[None]:
        """Give the charges back if the service could not do its part, so that nobody pays for that."""
        try:
            yield
        except _NOT_OUR_DOING:
            raise
        except BaseException:
            if charges:
                with suppress(Unavailable):
                    self.db.execute(_GIVE_BACK, arrays(charges))
            raise

    def report(self, error: TooManyRequests, event: str, client: Client, **fields: Any) -> None:
        self.metrics.throttled.labels(error.bucket).inc()
        wait, address = error.retry_after, client.ip_address
        log.warning(event, bucket=error.bucket, retry_after=wait, ip_address=address, **fields)


def arrays(charges: Sequence[Charge]) -> dict[str, Any]:
    return {
        "keys": [charge.key for charge in charges],
        "periods": [charge.rate.period for charge in charges],
        "bursts": [charge.rate.burst for charge in charges],
    }
