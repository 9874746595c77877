"""Encrypts the private keys anew after a change of SECRET_KEY."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog
from sqlalchemy import bindparam, update

from app.database.transactions import Database, Transaction, retry_conflicts
from app.models import SigningKey
from app.models.audit import AuditEventName
from app.security.signing_keys import decrypt, encrypt
from app.services.keys.making import KeyMaker
from app.services.keys.reading import LoadedKey
from app.services.operations.audit import Actor, AuditService

log = structlog.get_logger(__name__)

_REPLACE: Final = (
    update(SigningKey)
    .where(SigningKey.kid == bindparam("rewrapped"))
    .values(encrypted_private_key=bindparam("encrypted"))
)


class Rewrapped(NamedTuple):
    """`undecryptable` lists the kids that neither SECRET_KEY nor its fallbacks decrypt."""

    rewrapped: int
    undecryptable: list[str]


@dataclass(frozen=True, slots=True)
class RewrapService:
    """`secret_key_id` names SECRET_KEY in the audit trail, so that the doctor knows when it took over."""

    db: Database
    maker: KeyMaker
    secret_key_id: str
    audit: AuditService
    secrets: tuple[bytes, ...] = field(repr=False)

    @retry_conflicts
    def rewrap(self, actor: Actor) -> Rewrapped:
        """For when every replica has the new SECRET_KEY."""
        with self.db.transaction() as transaction:
            keys = self.maker.lock(transaction).keys.values()
            old = [each for each in keys if each.private is not None and each.private.secret > 0]
            for key in old:
                self._rewrap(transaction, key)
            done = Rewrapped(len(old), [each.kid for each in keys if not each.is_decryptable])
            details = {"number": done.rewrapped, "secret_key_id": self.secret_key_id}
            self.audit.record(transaction, AuditEventName.KEYS_REWRAPPED, actor, None, **details)
            transaction.after_commit(lambda: log.info("keys.rewrapped", number=done.rewrapped))
            return done

    def _rewrap(self, transaction: Transaction, key: LoadedKey) -> None:
        assert key.private is not None
        private = decrypt(key.private.encrypted, key.kid, self.secrets[key.private.secret])
        encrypted = encrypt(private, key.kid, self.secrets[0])
        transaction.execute(_REPLACE, {"rewrapped": key.kid, "encrypted": encrypted})
