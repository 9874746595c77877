"""What the doctor says of signing keys, and of former values of SECRET_KEY."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import DateTime, bindparam, func, select

from app.clock import Clock
from app.database.transactions import Database
from app.models import AuditEvent, LoginSession
from app.models.audit import AuditEventName
from app.models.sessions import is_live
from app.services.keys.signing import SigningKeys
from app.services.operations.doctor import Finding

_TOOK_OVER: Final = select(func.min(AuditEvent.at)).where(
    AuditEvent.event == AuditEventName.KEYS_REWRAPPED,
    AuditEvent.details["secret_key_id"].astext == bindparam("secret_key_id"),
)
_LAST_OLD_TOKEN: Final = select(func.max(LoginSession.expires_at)).where(
    *is_live(),
    func.coalesce(LoginSession.rotated_at, LoginSession.created_at)
    < bindparam("took_over", type_=DateTime(timezone=True)),
)


@dataclass(frozen=True, slots=True)
class KeyDiagnosis:
    """`fallbacks` is the number of SECRET_KEY_FALLBACKS."""

    db: Database
    keys: SigningKeys
    secret_key_id: str
    fallbacks: int
    clock: Clock

    def examine(self) -> Iterator[Finding]:
        """Raises DatabaseUnavailable."""
        self.keys.load()
        yield self._signing_keys()
        if self.fallbacks:
            yield self._fallbacks()

    def _signing_keys(self) -> Finding:
        now, keys = self.clock(), self.keys.snapshot
        lost = keys.undecryptable(now)
        if lost and not self.keys.is_ready():
            said = f"none can sign: no SECRET_KEY decrypts {lost[0].kid}; keys rotate --now makes another"
            return Finding("fault", "keys", said)
        if lost:
            said = f"no SECRET_KEY decrypts {', '.join(each.kid for each in lost)}; they only verify"
            return Finding("warning", "keys", said)
        if (algorithm := self.keys.algorithm) is None:
            number = len(keys.trusted(now))
            return Finding("ok", "keys", f"a shared secret signs; {number} are published")
        if (signer := keys.signer(algorithm, now)) is None:
            return Finding("ok", "keys", "none yet; the first worker that starts makes one")
        since = signer.life.times.signs_from
        return Finding("ok", "keys", f"{signer.kid} signs with {algorithm} since {since:%Y-%m-%d %H:%M}")

    def _fallbacks(self) -> Finding:
        keys = self.keys.snapshot.keys.values()
        needed = [each for each in keys if each.private is not None and each.private.secret > 0]
        if needed:
            said = f"decrypt {len(needed)} signing keys; run: python -m app.cli keys rewrap"
            return Finding("ok", "fallbacks", said)
        took_over = self.db.execute(_TOOK_OVER, {"secret_key_id": self.secret_key_id})[0][0]
        if took_over is None:
            said = "may verify refresh tokens; once every replica has the new SECRET_KEY, run keys rewrap"
            return Finding("ok", "fallbacks", said)
        until: datetime | None = self.db.execute(
            _LAST_OLD_TOKEN, {"now": self.clock(), "took_over": took_over}
        )[0][0]
        if until is not None:
            said = f"verify refresh tokens until {until:%Y-%m-%d %H:%M} at the latest"
            return Finding("ok", "fallbacks", said)
        return Finding("warning", "fallbacks", "are not needed any more: empty SECRET_KEY_FALLBACKS")
