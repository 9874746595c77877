"""A database with as many users as wanted, each with one session, by COPY.

Rows are computed from their number, so that a client knows what there is without asking: the user `n` has
the email `email_of(n)` and the session `session_of(n)`, whose live token has the same id.
"""

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from uuid import UUID

import psycopg2

from app.security.passwords import PasswordHasher

ADMIN = 1
PASSWORD = "correct horse battery"  # noqa: S105 — protects nothing
MOST_EVENTS = 5_000_000
_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
_EVENTS = ("login.succeeded", "session.ended", "login.failed", "user.registered")
_NULL = r"\N"
_COLUMNS = {
    "users": "id, email, hashed_password, role, is_active, created_at",
    "refresh_tokens": "id, user_id, token_id, created_at, expires_at, idempotency_key_hash, user_agent,"
    " ip_address",
    "audit_events": "id, at, actor_id, user_id, event, ip_address, user_agent, request_id, details",
    "throttles": "key, tat",
    "consecutive_failures": "key, user_id, failures, failed_at",
}


def email_of(number: int) -> str:
    """As those of people: their order says nothing of the order of the ids."""
    return f"{number * 2654435761 % 2**32:08x}@people.example.com"


def session_of(number: int) -> UUID:
    return UUID(hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest())


class _Rows(io.RawIOBase):
    """A file to read from, as COPY wants one."""

    def __init__(self, rows: Iterator[str]) -> None:
        super().__init__()
        self._rows, self._rest = rows, b""

    def read(self, size: int = 8192, /) -> bytes:
        while len(self._rest) < size and (more := "".join(islice(self._rows, 2000))):
            self._rest += more.encode()
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


def _users(number: int, now: datetime) -> Iterator[str]:
    hashed = PasswordHasher(4).hash(PASSWORD)
    for n in range(1, number + 1):
        role = "admin" if n == ADMIN else "user"
        yield f"{n}\t{email_of(n)}\t{hashed}\t{role}\t{'f' if n % 500 == 0 else 't'}\t{now}\n"


def _sessions(number: int, now: datetime) -> Iterator[str]:
    """With up to a week to live."""
    created, random = now - timedelta(days=20), Random(1)
    ends = [now + timedelta(hours=1, seconds=random.randrange(7 * 86400)) for _ in range(1009)]
    key_hash = "0" * 64
    for n in range(1, number + 1):
        session = hashlib.md5(b"%d" % n, usedforsecurity=False).hexdigest()
        key = key_hash if n % 3 == 0 else _NULL
        yield f"{session}\t{n}\t{session}\t{created}\t{ends[n % 1009]}\t{key}\t{_AGENT}\t192.0.2.{n % 250}\n"


def _events(number: int, users: int, now: datetime) -> Iterator[str]:
    """Over the last year, as ids go."""
    begin, step, random = now - timedelta(days=365), timedelta(days=365) / number, Random(2)
    for n in range(1, number + 1):
        user, at = random.randint(1, users), begin + n * step
        event = _EVENTS[0] if n % 4 else _EVENTS[n // 4 % 4]
        actor = _NULL if event == "login.failed" else user
        yield (
            f"{n}\t{at}\t{actor}\t{user}\t{event}\t192.0.2.{n % 250}\t{_AGENT}\t{n:032x}"
            f'\t{{"session_id": "{n:036x}"}}\n'
        )


def _throttles(number: int, now: datetime) -> Iterator[str]:
    """As if everybody had logged in lately; none is due for clean-up today."""
    for n in range(1, number + 1):
        yield f"{_key(n)}\t{now + timedelta(days=1)}\n"


def _failures(number: int, now: datetime) -> Iterator[str]:
    """Of one user in ten."""
    for n in range(1, number + 1, 10):
        yield f"{_key(n)}\t{n}\t1\t{now}\n"


def _key(number: int) -> str:
    """As long as the service's, and of nobody."""
    return r"\\x" + hashlib.sha256(b"%d" % number).hexdigest()


def fill(url: str, users: int) -> None:
    """`url` is of a migrated database. Indexes are made afterwards, as that takes half the time."""
    now, events = datetime.now(UTC).replace(microsecond=0), min(users, MOST_EVENTS)
    rows = {
        "users": _users(users, now),
        "refresh_tokens": _sessions(users, now),
        "audit_events": _events(events, users, now),
        "throttles": _throttles(users, now),
        "consecutive_failures": _failures(users, now),
    }
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica; SET maintenance_work_mem = '1GB'")
        cursor.execute(f"TRUNCATE {', '.join(rows)}, outbox_messages, one_time_tokens")
        cursor.execute(
            "SELECT indexdef, indexname FROM pg_indexes WHERE tablename = ANY(%s) AND indexname LIKE 'ix%%'",
            (list(rows),),
        )
        indexes = cursor.fetchall()
        for _, name in indexes:
            cursor.execute(f"DROP INDEX {name}")
        for table, lines in rows.items():
            cursor.copy_expert(f"COPY {table} ({_COLUMNS[table]}) FROM STDIN (FREEZE)", _Rows(lines))
        for definition, _ in indexes:
            cursor.execute(definition)
        for table in ("users", "audit_events"):
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    connection.close()
