"""The release before works on this release's schema, as both run while one takes the place of the other."""

import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

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
    StartProcess,
    alembic_config,
    clean_environment,
    look_into,
)

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
