"""What a signing key is for at a given moment: it follows from the keys' times and the clock alone.

    created_at        signs_from          the next key's signs_from      + a token's lifetime + LATE
        |  published      |     signing              |      verifying               |   gone

So no job has to run at a given moment, and replicas that know the same keys agree.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Self

LATE: Final = timedelta(seconds=120)
"""By so much a worker may sign with a key too long: it reads the keys each minute, and clocks differ."""
PUBLISHED_EARLIER: Final = timedelta(seconds=60)
"""In addition to the time that siblings cache the key set."""


class KeyState(StrEnum):
    PUBLISHED = "published"
    SIGNING = "signing"
    VERIFYING = "verifying"
    GONE = "gone"
    REVOKED = "revoked"

    @property
    def is_trusted(self) -> bool:
        """Whether tokens of the key are accepted; the key set has these keys."""
        return self not in (KeyState.GONE, KeyState.REVOKED)


class KeyTimes(NamedTuple):
    kid: str
    algorithm: str
    created_at: datetime
    signs_from: datetime
    revoked_at: datetime | None


class Schedule(NamedTuple):
    """`published_for`: before a key signs. `signs_for`: None if keys are replaced by command only."""

    token_lifetime: timedelta
    published_for: timedelta
    signs_for: timedelta | None


@dataclass(frozen=True, slots=True)
class KeyLife:
    """The times of a key among others of its algorithm. `superseded_at` is the next key's `signs_from`."""

    times: KeyTimes
    superseded_at: datetime | None
    gone_at: datetime | None

    @classmethod
    def of(cls, times: KeyTimes, others: Iterable[KeyTimes], token_lifetime: timedelta) -> Self:
        later = [each.signs_from for each in others if _succeeds(each, times)]
        superseded_at = min(later, default=None)
        gone_at = superseded_at and superseded_at + token_lifetime + LATE
        return cls(times, superseded_at, gone_at)

    def state(self, now: datetime) -> KeyState:
        if self.times.revoked_at is not None:
            return KeyState.REVOKED
        if self.gone_at is not None and now >= self.gone_at:
            return KeyState.GONE
        if self.superseded_at is not None and now >= self.superseded_at:
            return KeyState.VERIFYING
        return KeyState.SIGNING if now >= self.times.signs_from else KeyState.PUBLISHED

    def may_sign(self, now: datetime) -> bool:
        """Also for a moment after its successor has begun, should that one not be usable here."""
        begun = self.times.revoked_at is None and now >= self.times.signs_from
        return begun and (self.superseded_at is None or now < self.superseded_at + LATE)

    def begins_soon(self, now: datetime) -> bool:
        """As a key does that was to sign at once, for a clock that is ahead of ours."""
        return self.is_to_come(now) and self.times.signs_from <= now + LATE

    def is_to_come(self, now: datetime) -> bool:
        return self.state(now) is KeyState.PUBLISHED


def _succeeds(key: KeyTimes, before: KeyTimes) -> bool:
    """A key that was revoked before it began has never taken over."""
    began = key.revoked_at is None or key.revoked_at > key.signs_from
    later = (key.signs_from, key.kid) > (before.signs_from, before.kid)
    return began and later and key.algorithm == before.algorithm


def lives_of(keys: Sequence[KeyTimes], token_lifetime: timedelta) -> list[KeyLife]:
    """In the order in which they sign."""
    ordered = sorted(keys, key=lambda each: (each.signs_from, each.kid))
    return [KeyLife.of(each, ordered, token_lifetime) for each in ordered]


def signer(lives: Sequence[KeyLife], now: datetime) -> KeyLife | None:
    """Which of the usable keys of one algorithm signs; where none has begun, the first that will."""
    begun = [each for each in lives if each.may_sign(now)]
    if begun:
        return begun[-1]
    return next((each for each in lives if each.is_to_come(now)), None)


def due(lives: Sequence[KeyLife], now: datetime, schedule: Schedule) -> datetime | None:
    """If another key is needed beside the usable ones, when it should begin to sign."""
    current = signer(lives, now)
    if current is None:
        return now
    if current.state(now) is KeyState.VERIFYING:  # its successor is not usable
        return None if any(each.begins_soon(now) for each in lives) else now
    if schedule.signs_for is None or any(each.is_to_come(now) for each in lives):
        return None
    begins = now + schedule.published_for
    return begins if begins >= current.times.signs_from + schedule.signs_for else None


def at_once(lives: Iterable[KeyLife], now: datetime) -> datetime:
    """When a key has to begin that is to sign now, although another one was made by a clock ahead of ours."""
    begun = [each.times.signs_from for each in lives if each.times.signs_from <= now + LATE]
    return max([now, *(each + timedelta.resolution for each in begun)])
