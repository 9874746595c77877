"""How long a signed-out user is believed by siblings: `make bench-siblings`.

Two replicas; each try logs in and out at one of them in turn, while both clients, connected to the other,
are asked until they refuse. The clients' own benchmarks tell what a verification costs.
"""

import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from app import devdb
from benchmarks.bench import PASSWORD, Server, serve
from tests.support.judges import Judge, has_node_judge, node_judge, python_judge

TRIES = 200
LIMIT_SECONDS = 2.0
EMAIL = "ada@example.com"


def seconds_until_refused(judge: Judge, token: str) -> float:
    began = time.monotonic()
    while judge(token) != "token_revoked":
        time.sleep(0.002)
    return time.monotonic() - began


def one_try(server: Server, judges: dict[str, Judge], threads: ThreadPoolExecutor) -> list[float]:
    form = {"username": EMAIL, "password": PASSWORD}
    token = httpx.post(server.url("/api/v1/token"), data=form).raise_for_status().json()["access_token"]
    for name, judge in judges.items():
        if not judge(token).isdigit():
            raise SystemExit(f"{name} refuses a good token")
    httpx.post(
        server.url("/api/v1/logout?scope=session"), headers={"Authorization": f"Bearer {token}"}
    ).raise_for_status()
    return list(threads.map(lambda judge: seconds_until_refused(judge, token), judges.values()))


def measure(replicas: list[Server], service_token: str, shared_secret: str) -> None:
    openers = {"python": python_judge} | ({"node": node_judge} if has_node_judge() else {})
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        judges = {
            name: stack.enter_context(open_judge(replicas[1].url(""), service_token, shared_secret))
            for name, open_judge in openers.items()
        }
        servers = itertools.islice(itertools.cycle(replicas), TRIES)
        tries = [one_try(server, judges, threads) for server in servers]
    for name, delays in zip(judges, zip(*tries, strict=True), strict=True):
        ordered = sorted(delays)
        p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100 - 1]
        measured = f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, most {ordered[-1] * 1e3:.0f} ms"
        print(f"{name:8}{measured} of {len(ordered)} tries (p99 within {LIMIT_SECONDS:.0f} s)")


def main() -> None:
    data = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    secret = secrets.token_hex(32)
    environment = {
        "ENVIRONMENT": "development",  # takes fewer rounds, as logins are not what is measured
        "DATABASE_URL": devdb.attach(data),
        "SECRET_KEY": secret,
        "BCRYPT_ROUNDS": "4",
        "LOG_LEVEL": "ERROR",
        "THROTTLES": "false",
    }
    run = os.environ | environment
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], env=run, check=True)
    create = [sys.executable, "-m", "app.cli", "services", "create", "board", "--scopes", "revocations"]
    token = subprocess.check_output(create, env=run, text=True).strip()
    with serve("app.main:app", environment) as first, serve("app.main:app", environment) as second:
        body = {"email": EMAIL, "password": PASSWORD}
        httpx.post(first.url("/api/v1/users/"), json=body).raise_for_status()
        measure([first, second], token, secret)
    devdb.detach(data)


if __name__ == "__main__":
    main()
