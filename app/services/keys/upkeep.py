"""Keeps this process's keys up to date, and replaces the signing key in time."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from app.clock import Clock
from app.security.keyring import KeyState
from app.security.signing_keys import Algorithm
from app.services.keys.making import KeyMaker
from app.services.keys.signing import SigningKeys
from app.services.operations.audit import SERVICE
from app.telemetry.metrics import KeyMetrics

_PERIOD: Final = timedelta(seconds=60)
# Siblings ask for a key that they do not know, and any replica may be the one that answers.
_PERIOD_WITH_KEYS: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class KeyUpkeep:
    """`algorithm` is that of new access tokens; None if they are signed with a shared secret."""

    keys: SigningKeys
    maker: KeyMaker
    algorithm: Algorithm | None
    clock: Clock
    metrics: KeyMetrics

    def run(self) -> None:
        """Called every few seconds; works every 5 s where there are keys, otherwise once a minute.

        Raises DatabaseUnavailable.
        """
        try:
            if self._is_due():
                self.keys.load()
                self._replace()
        finally:
            self.measure()

    def _is_due(self) -> bool:
        tried_at, keys = self.keys.tried_at, self.keys
        period = _PERIOD_WITH_KEYS if self.algorithm or keys.snapshot.keys else _PERIOD
        return tried_at is None or not keys.is_ready() or self.clock() - tried_at >= period

    def _replace(self) -> None:
        if (algorithm := self.algorithm) is None:
            return
        schedule = self.maker.schedule
        if self.keys.snapshot.due(algorithm, self.clock(), schedule) is None:
            return
        self.maker.make(SERVICE, algorithm, lambda keys, now: keys.due(algorithm, now, schedule))
        self.keys.load()

    def measure(self) -> None:
        now, keys = self.clock(), self.keys
        self.metrics.ready.set(keys.is_ready())
        self.metrics.undecryptable.set(len(keys.snapshot.undecryptable(now)))
        for state in KeyState:
            self.metrics.keys.labels(state).set(len(keys.snapshot.in_state(state, now)))
        signer = keys.algorithm and keys.snapshot.signer(keys.algorithm, now)
        age = (now - signer.life.times.signs_from).total_seconds() if signer else 0
        self.metrics.age.set(max(0, age))
        limit = self.maker.schedule.signs_for
        self.metrics.age_limit.set(limit.total_seconds() if limit and keys.algorithm else 0)
