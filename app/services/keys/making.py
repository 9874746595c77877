"""Makes signing keys. A lock lets one replica at a time do it, after a look at what the others have made."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import func, insert, select

from app.clock import Clock
from app.database.transactions import Database, Transaction, retry_conflicts
from app.greenlets import await_, in_greenlet
from app.models import SigningKey
from app.models.audit import AuditEventName
from app.security.keyring import Schedule
from app.security.signing_keys import Algorithm, KeyPair, encrypt, generate
from app.services.keys.reading import KeyReader, KeySnapshot
from app.services.operations.audit import Actor, AuditService

log = structlog.get_logger(__name__)

ADVISORY_LOCK: Final = 6_051_220_112  # must differ from all other advisory locks in the database

_LOCK: Final = select(func.pg_advisory_xact_lock(ADVISORY_LOCK))
_INSERT: Final = insert(SigningKey)


@dataclass(frozen=True, slots=True)
class KeyMaker:
    """`secret` encrypts the private keys."""

    db: Database
    reader: KeyReader
    schedule: Schedule
    secret: bytes = field(repr=False)
    audit: AuditService
    clock: Clock

    def make(
        self, actor: Actor, algorithm: Algorithm, begins: Callable[[KeySnapshot, datetime], datetime | None]
    ) -> str | None:
        """Makes a key, unless `begins` returns None. Returns its kid."""
        return self._make(actor, self.generate(algorithm), begins)

    @retry_conflicts
    def _make(
        self, actor: Actor, pair: KeyPair, begins: Callable[[KeySnapshot, datetime], datetime | None]
    ) -> str | None:
        with self.db.transaction() as transaction:
            keys = self.lock(transaction)
            now = self.clock()
            signs_from = begins(keys, now)
            if signs_from is None:
                return None
            self.insert(transaction, actor, pair, signs_from)
            return pair.kid

    def generate(self, algorithm: Algorithm) -> KeyPair:
        """Before a transaction, and off the event loop, because of RSA."""
        if in_greenlet():
            return await_(asyncio.to_thread(generate, algorithm))
        return generate(algorithm)

    def lock(self, transaction: Transaction) -> KeySnapshot:
        """The keys, which nobody else changes until the end of the transaction."""
        transaction.execute(_LOCK)
        return self.reader.read(transaction, KeySnapshot())

    def insert(self, transaction: Transaction, actor: Actor, pair: KeyPair, signs_from: datetime) -> None:
        row = {
            "kid": pair.kid,
            "algorithm": pair.algorithm,
            "public_jwk": pair.public_jwk,
            "encrypted_private_key": encrypt(pair.private, pair.kid, self.secret),
            "created_at": self.clock(),
            "signs_from": signs_from,
        }
        transaction.execute(_INSERT, row)
        details = {"kid": pair.kid, "algorithm": pair.algorithm, "signs_from": signs_from.isoformat()}
        self.audit.record(transaction, AuditEventName.KEY_CREATED, actor, None, **details)
        transaction.after_commit(lambda: log.info("key.created", **details))
