"""What clients feel while replicas of one release, or of two, take each other's place.

The release before works on this release's schema, as both run meanwhile. A rolling restart fails no request.
"""

import shutil
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from alembic import command
from sqlalchemy import text

from app.database.revisions import known_revisions
from app.devdb import PROJECT
from tests.support import (
    HEALTH,
    PASSWORD,
    MakeDatabase,
    MakeService,
    Started,
    StartProcess,
    alembic_config,
    bearer,
    browser,
    clean_environment,
    look_into,
    new_email,
)
from tests.support.proxies import board_server, haproxy, nginx

DEPLOY = PROJECT / "deploy"
FLOWS = Path("tests") / "main_flows.py"
CHEAP = {"ENVIRONMENT": "development", "BCRYPT_ROUNDS": "4"}


def git(*arguments: str) -> bytes:
    """Nothing where git cannot tell, or is not there."""
    if not shutil.which("git"):
        return b""
    found = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, check=False)
    return found.stdout if found.returncode == 0 else b""


def before_this() -> str | None:
    """The last tag, or else the last commit that did not have the newest revision."""
    if tag := git("describe", "--tags", "--abbrev=0", "HEAD^").decode().strip():
        return tag
    newest = f"alembic/versions/*_{known_revisions()[-1]}_*.py"
    added = git("log", "--diff-filter=A", "--format=%H", "--", newest).decode().split()
    return git("rev-parse", "--verify", f"{added[-1]}^" if added else "HEAD").decode().strip() or None


@pytest.fixture(scope="module")
def release_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files. It runs with today's packages."""
    commit = before_this()
    if commit is None:
        pytest.skip("the history is not here to take the release before from: git fetch --unshallow --tags")
    folder = tmp_path_factory.mktemp("release-before")
    with tarfile.open(fileobj=BytesIO(git("archive", commit))) as archive:
        archive.extractall(folder, filter="data")
    if not (folder / FLOWS).exists():  # it is older than that file
        (folder / FLOWS).write_bytes((PROJECT / FLOWS).read_bytes())
    return folder


def test_the_release_before_runs_on_this_schema_beside_this_release_and_again_after_it(
    start_process: StartProcess, start_service: MakeService, make_database: MakeDatabase, release_before: Path
) -> None:
    url = make_database()
    watcher = look_into(url)
    before = start_process(url, project=release_before, **CHEAP).serves()
    admin = before.register().json()["email"]
    with watcher.connect() as connection:
        connection.execute(text("UPDATE users SET role = 'admin' WHERE email = :email"), {"email": admin})
        is_older = connection.scalar(text("SELECT version_num FROM alembic_version")) != known_revisions()[-1]
    watcher.dispose()
    pair = before.post("/api/v1/token", data={"username": admin, "password": PASSWORD}).json()

    def flows(*base_urls: str) -> None:
        program = [sys.executable, release_before / FLOWS, admin, PASSWORD, *base_urls]
        ended = subprocess.run(program, env=clean_environment(), capture_output=True, check=False, text=True)
        assert ended.returncode == 0, ended.stderr

    command.upgrade(alembic_config(url), "head")
    assert before.answers(HEALTH) == 200
    now = start_service(database_url=url)
    assert now.refresh(pair["refresh_token"]).status_code == 200
    flows(before.base_url, now.base_url)

    rolled_back = start_process(url, project=release_before, **CHEAP).serves()
    assert ("migration.skipped" in rolled_back.output) == is_older
    flows(rolled_back.base_url)


class Visitor(threading.Thread):
    """A session that is used again and again, on one connection as far as the other side likes."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.answers: Counter[str] = Counter()
        self.leaves = threading.Event()
        self._http = browser(base_url)
        user = {"email": new_email(), "password": PASSWORD}
        self._do("register", lambda: self._http.post("/api/v1/users/", json=user))
        form = {"username": user["email"], "password": PASSWORD}
        self._pair = self._do("login", lambda: self._http.post("/api/v1/token", data=form)).json()

    def run(self) -> None:
        while not self.leaves.is_set():
            self._do("me", lambda: self._http.get("/api/v1/me", headers=bearer(self._pair["access_token"])))
            refreshed = self._do("refresh", self._refresh)
            if refreshed.is_success:
                self._pair = refreshed.json()
        self._http.close()

    def _refresh(self) -> httpx.Response:
        body = {"refresh_token": self._pair["refresh_token"]}
        return self._http.post("/api/v1/refresh", json=body, headers={"Idempotency-Key": uuid4().hex})

    def _do(self, name: str, call: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            answer = call()
        except httpx.TransportError as error:
            answer = httpx.Response(599, text=repr(error))
        self.answers[name if answer.is_success else f"{name}: {answer.status_code} {answer.text}"] += 1
        return answer


def address(replica: Started) -> str:
    return replica.base_url.removeprefix("http://")


@contextmanager
def behind_nginx(folder: Path, replicas: list[Started], board: int) -> Iterator[str]:
    example = (DEPLOY / "nginx" / "prefix.conf").read_text(encoding="utf-8")
    (line,) = (each for each in example.splitlines() if "server auth:8000" in each)
    example = example.replace(line, f"{line}\n{line.replace('auth:8000', address(replicas[1]))}")
    example = hastened(example, {"keepalive_timeout 4s": "keepalive_timeout 1s"})
    with nginx(folder, example, replicas[0], board) as url:
        yield f"{url}/api/auth"


@contextmanager
def behind_haproxy(folder: Path, replicas: list[Started], board: int) -> Iterator[str]:
    example = (DEPLOY / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
    example = hastened(example, {"inter 1s": "inter 200"})
    with haproxy(folder, example, replicas[0], board, replicas[1]) as url:
        yield f"{url}/api/auth"


def hastened(example: str, shorter: dict[str, str]) -> str:
    """With times as much shorter as the test's drain is."""
    for given, short in shorter.items():
        assert given in example
        example = example.replace(given, short)
    return example


PROXIES = {"nginx": behind_nginx, "haproxy": behind_haproxy}


def test_a_rolling_restart_fails_no_request(
    start_process: StartProcess, database_url: str, tmp_path: Path
) -> None:
    """Behind each proxy that is installed, of a replica with one worker and another with two."""
    drain = {"DRAIN_SECONDS": "2"}
    replicas = [
        start_process(database_url, "--timeout-keep-alive", "2", WEB_CONCURRENCY=workers, **drain)
        for workers in ("1", "2")
    ]
    for each in replicas:
        each.serves()
    missing = [name for name in PROXIES if not shutil.which(name)]
    with ExitStack() as stack:
        board = stack.enter_context(board_server())
        installed = [proxy for name, proxy in PROXIES.items() if name not in missing]
        urls = [stack.enter_context(proxy(tmp_path, replicas, board)) for proxy in installed]
        visitors = [Visitor(url) for url in urls for _ in range(2)]
        for visitor in visitors:
            visitor.start()
        for replica in replicas:
            replica.process.terminate()
            replica.ends()
            replica.start()
            replica.serves()
        for visitor in visitors:
            visitor.leaves.set()
        for visitor in visitors:
            visitor.join()
    for visitor in visitors:
        assert set(visitor.answers) == {"register", "login", "me", "refresh"}, visitor.answers
    if missing:
        pytest.skip(f"not installed, and so left out: {', '.join(missing)}")
