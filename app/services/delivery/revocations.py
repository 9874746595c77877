"""The feed of revocations, from which sibling services learn which access tokens not to believe."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from psycopg2 import errorcodes
from sqlalchemy import ARRAY, Uuid, bindparam, func, insert, select, text
from sqlalchemy.exc import DBAPIError

from app.clock import Clock
from app.database.failures import sqlstate
from app.database.transactions import Database, Rows, Transaction
from app.errors import CursorExpired, InvalidCursor
from app.models import TokenRevocation
from app.services.delivery.cursor import Cursor, Snapshot

CHANNEL: Final = "kanban_auth_revocations"
# Siblings believe a token for some seconds after its expiry.
_LEEWAY: Final = timedelta(seconds=10)

_NOTIFY = select(func.pg_notify(CHANNEL, ""))
_PUBLISH_USER: Final = _NOTIFY.add_cte(
    insert(TokenRevocation)
    .values({name: bindparam(name) for name in ("user_id", "reason", "role", "issued_before", "expires_at")})
    .cte("published")
)
_PUBLISH_SESSIONS: Final = _NOTIFY.add_cte(
    insert(TokenRevocation)
    .from_select(
        ["session_id", "reason", "expires_at"],
        select(
            func.unnest(bindparam("session_ids", type_=ARRAY(Uuid))),
            bindparam("reason", type_=TokenRevocation.reason.type),
            bindparam("expires_at", type_=TokenRevocation.expires_at.type),
        ),
    )
    .cte("published")
)
# The timeline changes when a standby is promoted: the transactions that it did not have are gone.
_SELECT_PAGE: Final = text(
    """
    WITH present AS (
        SELECT pg_current_snapshot()::text AS snapshot,
               md5(system_identifier || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)) AS epoch
        FROM pg_control_system()
    )
    SELECT present.*, item.id, session_id, user_id, issued_before, role, reason, expires_at
    FROM present LEFT JOIN LATERAL (
        SELECT * FROM revocations
        WHERE expires_at > :now AND id > :last_id AND transaction_id >= :seen_xmin
          AND NOT pg_visible_in_snapshot(transaction_id::text::xid8, CAST(:seen AS pg_snapshot))
          AND (CAST(:reading AS text) IS NULL
               OR pg_visible_in_snapshot(transaction_id::text::xid8, CAST(:reading AS pg_snapshot)))
        ORDER BY id LIMIT :most
    ) AS item ON true
    ORDER BY item.id
    """
).columns()
_NOTHING_SEEN: Final = Snapshot("1:1:")
_NO_SNAPSHOT: Final = (errorcodes.INVALID_TEXT_REPRESENTATION, errorcodes.NUMERIC_VALUE_OUT_OF_RANGE)


class RevocationItem(NamedTuple):
    """`cursor` is the position after this item."""

    cursor: str
    session_id: UUID | None
    user_id: int | None
    issued_before: datetime | None
    role: str | None
    reason: str
    expires_at: datetime


class RevocationPage(NamedTuple):
    items: Sequence[RevocationItem]
    cursor: str
    has_more: bool


@dataclass(frozen=True, slots=True)
class RevocationFeed:
    """Writes within the transactions of others: a revocation is published when it is committed."""

    db: Database
    access_lifetime: timedelta
    clock: Clock

    def publish_sessions(self, transaction: Transaction, session_ids: Sequence[UUID], reason: str) -> None:
        parameters = {"session_ids": list(session_ids), "reason": reason, "expires_at": self._expires_at()}
        transaction.execute(_PUBLISH_SESSIONS, parameters)

    def publish_user(
        self, transaction: Transaction, user_id: int, reason: str, *, role: str | None = None
    ) -> None:
        """With a `role`, of tokens with any other role; otherwise of all tokens issued until now."""
        issued_before = None if role else self.clock()
        parameters = {"user_id": user_id, "reason": reason, "role": role, "issued_before": issued_before}
        transaction.execute(_PUBLISH_USER, parameters | {"expires_at": self._expires_at()})

    def page(self, after: str | None, limit: int) -> RevocationPage:
        """Without `after`, from the oldest that has not expired. Raises InvalidCursor, CursorExpired."""
        cursor = Cursor.parse(after) if after else Cursor("", _NOTHING_SEEN)
        reading = cursor.reading
        parameters = {
            "now": self.clock(),
            "last_id": cursor.last_id,
            "seen": cursor.seen.text,
            "seen_xmin": cursor.seen.oldest,
            "reading": None if reading is None or reading.is_rough else reading.text,
            "most": limit,
        }
        try:
            rows = self.db.execute(_SELECT_PAGE, parameters)
        except DBAPIError as error:
            if sqlstate(error) in _NO_SNAPSHOT:
                raise InvalidCursor from None
            raise
        if after and cursor.epoch != rows[0].epoch:
            raise CursorExpired
        return _page(cursor, rows, limit)

    def _expires_at(self) -> datetime:
        return self.clock() + self.access_lifetime + _LEEWAY


def _page(cursor: Cursor, rows: Rows, limit: int) -> RevocationPage:
    epoch, reading = rows[0].epoch, cursor.reading or Snapshot.taken(rows[0].snapshot)
    items = [
        RevocationItem._make((str(Cursor(epoch, cursor.seen, reading, row.id)), *row[3:]))
        for row in rows
        if row.id is not None
    ]
    if items and len(items) == limit:
        return RevocationPage(items, items[-1].cursor, has_more=True)
    # What was committed after `reading` is on the next page.
    return RevocationPage(items, str(Cursor(epoch, reading)), has_more=cursor.reading is not None)
