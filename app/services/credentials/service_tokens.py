"""Tokens of sibling services and scrapers."""

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import structlog
from sqlalchemy import bindparam, insert, select, update

from app.clock import Clock
from app.database.transactions import Database, retry_conflicts
from app.errors import DatabaseUnavailable, Forbidden, InvalidToken, NotFound
from app.greenlets import run_beside
from app.models import ServiceToken
from app.models.audit import AuditEventName
from app.models.service_tokens import Scope
from app.security.service_tokens import PREFIX, hash_service_token, new_service_token
from app.services.operations.audit import Actor, AuditService

log = structlog.get_logger(__name__)

_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)
_USE_RECORDED_EVERY: Final = timedelta(minutes=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class ServiceTokenInfo(NamedTuple):
    """A service token without the token."""

    id: int
    name: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = tuple(getattr(ServiceToken, name) for name in ServiceTokenInfo._fields)
_INSERT: Final = insert(ServiceToken).returning(*_COLUMNS)
_SELECT_ALL: Final = select(*_COLUMNS).order_by(ServiceToken.id)
_SELECT_BY_HASH: Final = select(*_COLUMNS).where(
    ServiceToken.token_hash == bindparam("token_hash"), ServiceToken.revoked_at.is_(None)
)
_RECORD_USE: Final = (
    update(ServiceToken).where(ServiceToken.id == bindparam("token_id")).values(last_used_at=bindparam("now"))
)
_REVOKE: Final = (
    update(ServiceToken)
    .where(
        (ServiceToken.id == bindparam("token_id")) | (ServiceToken.name == bindparam("token_name")),
        ServiceToken.revoked_at.is_(None),
    )
    .values(revoked_at=bindparam("now"))
    .returning(ServiceToken.id, ServiceToken.name)
)


@dataclass(frozen=True, slots=True)
class ServiceTokenService:
    db: Database
    audit: AuditService
    clock: Clock
    recorded: dict[int, datetime] = field(default_factory=dict)
    """When this worker last tried to, by id."""

    @retry_conflicts
    def create(self, actor: Actor, name: str, scopes: Collection[Scope]) -> tuple[str, ServiceTokenInfo]:
        """The token, which cannot be read again, and what is stored. Raises ValueError for a bad name."""
        if not _NAME.fullmatch(name):
            raise ValueError("a name has up to 64 of a-z 0-9 _ . - and begins with a letter")
        token = new_service_token()
        values = {
            "name": name,
            "token_hash": hash_service_token(token),
            "scopes": sorted(set(scopes)),
            "created_at": self.clock(),
        }
        with self.db.transaction() as transaction:
            stored = ServiceTokenInfo._make(transaction.execute(_INSERT, values)[0])
            details = {"name": name, "token_id": stored.id, "scopes": stored.scopes}
            self.audit.record(transaction, AuditEventName.SERVICE_CREATED, actor, None, **details)
            transaction.after_commit(lambda: log.info("service.created", **details))
        return token, stored

    def list(self) -> list[ServiceTokenInfo]:
        """Also the revoked ones, oldest first."""
        return [ServiceTokenInfo._make(row) for row in self.db.execute(_SELECT_ALL)]

    @retry_conflicts
    def revoke(self, actor: Actor, service: str) -> int:
        """`service` is an id, or a name with all its tokens. Returns their number. Raises NotFound."""
        token_id = int(service) if service.isascii() and service.isdecimal() else None
        parameters = {"token_id": token_id, "token_name": service, "now": self.clock()}
        with self.db.transaction() as transaction:
            rows = transaction.execute(_REVOKE, parameters)
            if not rows:
                raise NotFound
            for row in rows:
                details = {"name": row.name, "token_id": row.id}
                self.audit.record(transaction, AuditEventName.SERVICE_REVOKED, actor, None, **details)
            transaction.after_commit(lambda: log.info("service.revoked", service=service, number=len(rows)))
        return len(rows)

    def authenticate(self, token: str, scope: Scope) -> ServiceTokenInfo:
        """Raises InvalidToken, or Forbidden if the token does not have the scope."""
        if not token.startswith(PREFIX):
            raise InvalidToken
        rows = self.db.execute(_SELECT_BY_HASH, {"token_hash": hash_service_token(token)})
        if not rows:
            raise InvalidToken
        found, now = ServiceTokenInfo._make(rows[0]), self.clock()
        last = max(found.last_used_at or _NEVER, self.recorded.get(found.id, _NEVER))
        if now - last > _USE_RECORDED_EVERY:
            self.recorded[found.id] = now
            run_beside(self._record_use, found.id, now)
        if scope not in found.scopes:
            raise Forbidden
        return found

    def _record_use(self, token_id: int, now: datetime) -> None:
        """Nobody waits for it, as writes may wait while reads go on."""
        with suppress(DatabaseUnavailable):
            self.db.execute(_RECORD_USE, {"token_id": token_id, "now": now})
