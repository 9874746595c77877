"""Reads the signing keys, with what each of them is for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Row, select

from app.database.transactions import Executor
from app.models import SigningKey
from app.security import jws
from app.security.keyring import KeyLife, KeyState, KeyTimes, Schedule, at_once, due, lives_of, signer
from app.security.signing_keys import Undecryptable, decrypt, signing_key

log = structlog.get_logger(__name__)

_SELECT: Final = select(
    SigningKey.kid,
    SigningKey.algorithm,
    SigningKey.public_jwk,
    SigningKey.encrypted_private_key,
    SigningKey.created_at,
    SigningKey.signs_from,
    SigningKey.revoked_at,
    SigningKey.revoked_reason,
)


class Private(NamedTuple):
    """`secret` is the index of the secret that encrypts it: 0 is SECRET_KEY, the others are fallbacks."""

    key: jws.Key
    encrypted: bytes
    secret: int


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """`private` is None if none of our secrets decrypts it: the key still verifies.

    `is_decryptable` is of the row as it is now; what was decrypted before it changed stays in use.
    """

    life: KeyLife
    public_jwk: dict[str, Any]
    public: jws.Key
    private: Private | None
    is_decryptable: bool
    revoked_reason: str | None

    @property
    def kid(self) -> str:
        return self.life.times.kid


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """The keys as they were read, in the order in which they sign."""

    keys: Mapping[str, LoadedKey] = field(default_factory=dict)

    def signer(self, algorithm: str, now: datetime) -> LoadedKey | None:
        life = signer(self._usable(algorithm), now)
        return self.keys[life.times.kid] if life else None

    def due(self, algorithm: str, now: datetime, schedule: Schedule) -> datetime | None:
        """None also where all keys are encrypted with a SECRET_KEY that is not ours.

        A replica with a wrong SECRET_KEY would otherwise replace the keys of all others.
        """
        usable = self._usable(algorithm)
        if signer(usable, now) is None and self.undecryptable(now, algorithm):
            return None
        begins = due(usable, now, schedule)
        return self.at_once(algorithm, now) if begins == now else begins

    def at_once(self, algorithm: str, now: datetime) -> datetime:
        """When a new key begins to sign that does so at once."""
        lives = [each.life for each in self.keys.values() if each.life.times.algorithm == algorithm]
        return at_once(lives, now)

    def trusted(self, now: datetime) -> list[LoadedKey]:
        """Those of the key set."""
        return [each for each in self.keys.values() if each.life.state(now).is_trusted]

    def in_state(self, state: KeyState, now: datetime) -> list[LoadedKey]:
        return [each for each in self.keys.values() if each.life.state(now) is state]

    def undecryptable(self, now: datetime, algorithm: str | None = None) -> list[LoadedKey]:
        """Of those that are still of use."""
        return [
            each
            for each in self.trusted(now)
            if not each.is_decryptable and algorithm in (None, each.life.times.algorithm)
        ]

    def usable(self, algorithm: str, now: datetime) -> list[LoadedKey]:
        """Those that sign now or later."""
        lives = [each for each in self._usable(algorithm) if each.may_sign(now) or each.is_to_come(now)]
        return [self.keys[life.times.kid] for life in lives]

    def _usable(self, algorithm: str) -> list[KeyLife]:
        return [
            each.life
            for each in self.keys.values()
            if each.private is not None and each.life.times.algorithm == algorithm
        ]


@dataclass(frozen=True, slots=True)
class KeyReader:
    """`secrets` are derived from SECRET_KEY and its fallbacks."""

    secrets: Sequence[bytes] = field(repr=False)
    token_lifetime: timedelta

    def read(self, executor: Executor, before: KeySnapshot) -> KeySnapshot:
        """Keys that are in `before` are not decrypted again. A key that is broken stops no other one."""
        rows = {row.kid: row for row in executor.execute(_SELECT)}
        lives = lives_of([KeyTimes(*_times(row)) for row in rows.values()], self.token_lifetime)
        loaded = [self._load(rows[life.times.kid], life, before) for life in lives]
        return KeySnapshot({each.kid: each for each in loaded if each is not None})

    def _load(self, row: Row[Any], life: KeyLife, before: KeySnapshot) -> LoadedKey | None:
        known = before.keys.get(row.kid)
        if known and known.public_jwk != row.public_jwk:
            known = None
        try:
            public = known.public if known else jws.public_key(row.public_jwk, row.algorithm, row.kid)
        except ValueError:
            log.error("key.unreadable", kid=row.kid)  # noqa: TRY400 — a traceback adds nothing
            return None
        private = self._decrypt(row, known)
        if private is None and (known is None or known.is_decryptable):
            log.error("key.undecryptable", kid=row.kid)
        kept = private or (known.private if known else None)
        return LoadedKey(life, row.public_jwk, public, kept, private is not None, row.revoked_reason)

    def _decrypt(self, row: Row[Any], known: LoadedKey | None) -> Private | None:
        encrypted = bytes(row.encrypted_private_key)
        if known and known.private and known.private.encrypted == encrypted:
            return known.private
        for number, secret in enumerate(self.secrets):
            try:
                private = decrypt(encrypted, row.kid, secret)
            except Undecryptable:
                continue
            return Private(signing_key(private, row.algorithm, row.kid), encrypted, number)
        return None


def _times(row: Row[Any]) -> tuple[str, str, datetime, datetime, datetime | None]:
    return row.kid, row.algorithm, row.created_at, row.signs_from, row.revoked_at
