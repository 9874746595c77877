"""What operators and administrators do with signing keys."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import structlog
from sqlalchemy import bindparam, update

from app.clock import Clock
from app.database.transactions import Database, Transaction, retry_conflicts
from app.errors import NotFound
from app.models import SigningKey
from app.models.audit import AuditEventName
from app.security.keyring import KeyState
from app.security.signing_keys import Algorithm, KeyPair
from app.services.keys.making import KeyMaker
from app.services.keys.reading import KeySnapshot, LoadedKey
from app.services.keys.signing import KeySet, SigningKeys
from app.services.operations.audit import Actor, AuditService

log = structlog.get_logger(__name__)

_REVOKE: Final = (
    update(SigningKey)
    .where(SigningKey.kid == bindparam("revoked"))
    .values(revoked_at=bindparam("now"), revoked_reason=bindparam("reason"))
)


class KeyInfo(NamedTuple):
    """`superseded_at` is when the next key begins to sign; `can_sign` is false if it cannot be decrypted."""

    kid: str
    algorithm: str
    state: KeyState
    created_at: datetime
    signs_from: datetime
    superseded_at: datetime | None
    revoked_at: datetime | None
    revoked_reason: str | None
    can_sign: bool


@dataclass(frozen=True, slots=True)
class KeyAdminService:
    """`algorithm` is that of new access tokens; None if they are signed with a shared secret."""

    db: Database
    keys: SigningKeys
    maker: KeyMaker
    algorithm: Algorithm | None
    audit: AuditService
    clock: Clock

    def list(self) -> list[KeyInfo]:
        """As the database knows them now; in the order in which they sign."""
        self.keys.load()
        return [self._info(each) for each in self.keys.snapshot.keys.values()]

    def key_set(self) -> KeySet:
        """As the database knows them now."""
        self.keys.load()
        return self.keys.key_set()

    def prepare(self, actor: Actor, algorithm: Algorithm) -> KeyInfo:
        """A key that siblings can see before JWT_ALGORITHM changes; where there is one already, that one."""
        publish = self.maker.schedule.published_for

        def begins(keys: KeySnapshot, now: datetime) -> datetime | None:
            return None if keys.usable(algorithm, now) else now + publish

        return self._make(actor, algorithm, begins)

    def rotate(self, actor: Actor, *, at_once: bool) -> KeyInfo:
        """A new key: published first, unless `at_once`. A successor that is published already is enough."""
        algorithm = self.algorithm or self._prepared()
        publish = self.maker.schedule.published_for

        def begins(keys: KeySnapshot, now: datetime) -> datetime | None:
            if at_once or not keys.usable(algorithm, now):
                return keys.at_once(algorithm, now)
            waiting = any(each.life.is_to_come(now) for each in keys.usable(algorithm, now))
            return None if waiting else now + publish

        return self._make(actor, algorithm, begins)

    def _prepared(self) -> Algorithm:
        """While a shared secret signs: the algorithm of the newest key, which was prepared for later."""
        self.keys.load()
        algorithms = [each.life.times.algorithm for each in self.keys.snapshot.keys.values()]
        return "RS256" if algorithms and algorithms[-1] == "RS256" else "ES256"

    def _make(
        self,
        actor: Actor,
        algorithm: Algorithm,
        begins: Callable[[KeySnapshot, datetime], datetime | None],
    ) -> KeyInfo:
        kid = self.maker.make(actor, algorithm, begins)
        self.keys.load()
        if kid is not None:
            return self._info(self.keys.snapshot.keys[kid])
        return self._info(self.keys.snapshot.usable(algorithm, self.clock())[-1])

    def revoke(self, actor: Actor, kid: str, reason: str) -> KeyInfo:
        """Its tokens are refused from now on. If it is the one that signs, a new one does so at once.

        Raises NotFound.
        """
        successor = self.maker.generate(self.algorithm) if self.algorithm else None
        self._revoke(actor, kid, reason, successor)
        self.keys.load()
        return self._info(self.keys.snapshot.keys[kid])

    @retry_conflicts
    def _revoke(self, actor: Actor, kid: str, reason: str, successor: KeyPair | None) -> None:
        with self.db.transaction() as transaction:
            keys, now = self.maker.lock(transaction), self.clock()
            if (key := keys.keys.get(kid)) is None:
                raise NotFound
            if key.life.times.revoked_at is not None:
                return
            signer = keys.signer(self.algorithm, now) if self.algorithm else None
            self._record(transaction, actor, kid, reason, now)
            if successor and signer and signer.kid == kid:
                self.maker.insert(transaction, actor, successor, keys.at_once(successor.algorithm, now))

    def _record(self, transaction: Transaction, actor: Actor, kid: str, reason: str, now: datetime) -> None:
        transaction.execute(_REVOKE, {"revoked": kid, "now": now, "reason": reason})
        self.audit.record(transaction, AuditEventName.KEY_REVOKED, actor, None, kid=kid, reason=reason)
        transaction.after_commit(lambda: log.warning("key.revoked", kid=kid))

    def _info(self, key: LoadedKey) -> KeyInfo:
        times = key.life.times
        return KeyInfo(
            kid=times.kid,
            algorithm=times.algorithm,
            state=key.life.state(self.clock()),
            created_at=times.created_at,
            signs_from=times.signs_from,
            superseded_at=key.life.superseded_at,
            revoked_at=times.revoked_at,
            revoked_reason=key.revoked_reason,
            can_sign=key.is_decryptable,
        )
