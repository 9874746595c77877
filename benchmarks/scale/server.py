"""One PostgreSQL with a database for each size, set up as a server of this size would be."""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
from sqlalchemy import make_url

from app import devdb
from benchmarks.scale.fill import fill

SIZES = tuple(map(int, os.environ.get("SIZES", "1000,100000,10000000").split(",")))
_CONFIG = """
shared_buffers = 3GB
max_wal_size = 16GB
checkpoint_timeout = 15min
wal_level = minimal
max_wal_senders = 0
effective_cache_size = 12GB
max_connections = 200
"""
"""COPY into a new table needs no WAL at the minimal level; a rotation writes the same at any."""


def start(data: Path) -> dict[int, str]:
    """URLs by number of users. A folder that was filled before is used again."""
    url = devdb.attach(data, _CONFIG)
    databases = {}
    for users in SIZES:
        databases[users] = make_url(url).set(database=f"scale_{users}").render_as_string(hide_password=False)
        if not (data / f"filled_{users}").exists():
            _make(url, databases[users], users)
            (data / f"filled_{users}").touch()
        _warm(databases[users])
    return databases


def _warm(url: str) -> None:
    """Reads tables and primary keys, as they would be in memory on a server that has been used."""
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        for way in ("enable_indexonlyscan", "enable_seqscan"):
            cursor.execute(f"SET enable_indexscan = off; SET enable_bitmapscan = off; SET {way} = off")
            for table in ("users", "refresh_tokens", "audit_events", "throttles"):
                cursor.execute(f"SELECT count(*) FROM {table}")
            cursor.execute("RESET ALL")
    connection.close()


def _make(server: str, url: str, users: int) -> None:
    begin = time.monotonic()
    connection = psycopg2.connect(server)
    connection.autocommit = True
    connection.cursor().execute(f"DROP DATABASE IF EXISTS scale_{users}")
    connection.cursor().execute(f"CREATE DATABASE scale_{users}")
    connection.close()
    environment = os.environ | {
        "DATABASE_URL": url,
        "SECRET_KEY": secrets.token_hex(32),
        "LOG_LEVEL": "WARNING",
    }
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], env=environment, check=True)
    fill(url, users)
    print(f"{users:,} users filled in {time.monotonic() - begin:.0f} s", flush=True)
