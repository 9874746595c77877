"""How long each migration keeps requests waiting: `make bench-migrations`.

A million users with a session each, and 200 requests a second, each as the statement that it costs most: who
reads, rotates, logs in and registers. They are due at fixed times, and a delay counts from then, so that who
stands behind another is counted too.
"""

import os
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import psycopg2
from alembic import command
from alembic.config import Config
from psycopg2.extensions import connection

from app import devdb
from app.database.revisions import known_revisions

USERS: Final = int(os.environ.get("USERS", "1000000"))
RATE: Final = 200
CLIENTS: Final = 20
LIMIT_SECONDS: Final = 0.3
CALM_SECONDS: Final = 5
_ROWS: Final = 100_000

TABLES: Final[dict[str, tuple[str, Callable[[int], str]]]] = {
    "users": (
        "(email, hashed_password, created_at)",
        lambda number: f"{number:08}@example.com\t$2b$12${'x' * 53}\t2026-01-01\n",
    ),
    "refresh_tokens": (
        "(id, user_id, token_id, created_at, expires_at)",
        lambda number: "{0}\t{1}\t{0}\t2026-01-01\t2027-01-01\n".format(uuid.UUID(int=number), number + 1),
    ),
    "audit_events": (
        "(at, user_id, event, details)",
        lambda number: f"2026-01-01\t{number + 1}\tlogin\t{{}}\n",
    ),
}
ME: Final = """SELECT * FROM users JOIN refresh_tokens ON user_id = users.id
    WHERE users.id = %(user)s AND refresh_tokens.id = %(session)s"""
REFRESH: Final = """UPDATE refresh_tokens
    SET previous_token_id = token_id, token_id = gen_random_uuid(), rotated_at = now()
    WHERE id = %(session)s"""
LOGIN: Final = """INSERT INTO refresh_tokens (id, user_id, token_id, created_at, expires_at)
    VALUES (gen_random_uuid(), %(user)s, gen_random_uuid(), now(), now() + interval '7 days')"""
REGISTRATION: Final = """INSERT INTO users (email, hashed_password, created_at)
    VALUES (gen_random_uuid(), 'x', now())"""


class Delays(NamedTuple):
    seconds: list[float]

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        p99 = ordered[int(len(ordered) * 0.99)]
        return f"{len(ordered):6} requests, p99 {p99 * 1000:6.1f} ms, longest {ordered[-1] * 1000:6.1f} ms"


class Load:
    """Goes on until it is stopped; what was due since the last look is given by `delays`."""

    def __init__(self, url: str) -> None:
        self._begin, self._next, self._lock = time.monotonic(), 0, threading.Lock()
        self._delays: list[float] = []
        self._ended = False
        self._threads = [threading.Thread(target=self._run, args=(url, each)) for each in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, url: str, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 — a load, and no secret
        connection = psycopg2.connect(url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not self._ended:
                with self._lock:
                    due, self._next = self._begin + self._next / RATE, self._next + 1
                time.sleep(max(0, due - time.monotonic()))
                number = chance.randrange(USERS)
                cursor.execute(
                    chance.choice((ME, REFRESH, LOGIN, REGISTRATION)),
                    {"user": number + 1, "session": str(uuid.UUID(int=number))},
                )
                self._delays.append(time.monotonic() - due)
        connection.close()

    def delays(self) -> Delays:
        found, self._delays = self._delays, []
        return Delays(found)

    def stop(self) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()


def fill(database: connection) -> None:
    """Each of the large tables that is there, and empty."""
    with database.cursor() as cursor:
        for table, (columns, row) in TABLES.items():
            cursor.execute("SELECT to_regclass(%s)", (table,))
            if cursor.fetchone() == (None,):
                continue
            cursor.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 — a name from above
            if cursor.rowcount:
                continue
            rows = map(row, range(USERS))
            while part := "".join(islice(rows, _ROWS)):
                cursor.copy_expert(f"COPY {table} {columns} FROM STDIN", StringIO(part))
            cursor.execute(f"VACUUM ANALYZE {table}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kanban-auth-") as folder:
        url = devdb.attach(Path(folder) / "server")
        try:
            longest = measure(url)
        finally:
            devdb.detach(Path(folder) / "server", timeout=60)
    if longest > LIMIT_SECONDS:
        raise SystemExit(
            f"A request waited for {longest * 1000:.0f} ms; {LIMIT_SECONDS * 1000:.0f} ms is the limit."
        )


def measure(url: str) -> float:
    """The longest delay, in seconds."""
    config = Config(devdb.PROJECT / "alembic.ini")
    config.attributes["url"] = url.replace("postgresql:", "postgresql+psycopg2:")
    first, *others = known_revisions()
    command.upgrade(config, first)
    database = psycopg2.connect(url)
    database.autocommit = True
    longest = 0.0
    for revision in others:
        fill(database)
        load = Load(url)
        try:
            time.sleep(CALM_SECONDS)
            calm, begin = load.delays(), time.monotonic()
            command.upgrade(config, revision)
            took = time.monotonic() - begin
            time.sleep(1)  # for those who waited
        finally:
            load.stop()
        during = load.delays()
        longest = max(longest, *during.seconds)
        print(f"{revision}  {took:5.1f} s  {during}   (before: {calm})", flush=True)
    database.close()
    return longest


if __name__ == "__main__":
    main()
