"""The operators' commands, as they call them."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from sqlalchemy import create_engine, text

from app.devdb import PROJECT
from app.services import doctor
from app.services.doctor import DoctorService, Finding
from tests.conftest import SECRET_KEY, MakeDatabase, MakeService
from tests.support import CLEAN_ENVIRONMENT, PASSWORD, MovableClock, bearer, error_of

NOBODY = "999999999999"
NOWHERE = "postgresql://somebody:hidden-password@127.0.0.1:1/nowhere"


def run(
    database_url: str, *arguments: str, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    environment = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET_KEY}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], cwd=PROJECT,
        env=CLEAN_ENVIRONMENT | environment | settings,
        input=stdin, capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip


def verdicts(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {finding["subject"]: finding["verdict"] for finding in json.loads(result.stdout)}


def test_a_sound_deployment_has_no_fault(database_url: str) -> None:
    result = run(database_url, "doctor")

    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    subjects = ["settings", "secret", "database", "schema", "clock", "connections", "cookies", "metrics"]
    assert [(verdict, subject) for verdict, subject, _ in lines] == [("ok", each) for each in subjects]


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({"SECRET_KEY": "a" * 64}, "secret"),
        ({"WEB_CONCURRENCY": "200"}, "connections"),
        ({"CORS_ORIGINS": "http://board.example.com"}, "cookies"),
        ({"WEB_CONCURRENCY": "2", "PROMETHEUS_MULTIPROC_DIR": "/proc/nowhere"}, "metrics"),
    ],
)
def test_a_fault_is_named_and_ends_with_status_1(
    database_url: str, settings: dict[str, str], subject: str
) -> None:
    result = run(database_url, "doctor", "--json", **settings)

    assert result.returncode == 1
    assert [name for name, verdict in verdicts(result).items() if verdict == "fault"] == [subject]


def test_without_a_database_the_rest_is_examined() -> None:
    result = run(NOWHERE, "doctor", "--json")

    assert result.returncode == 1
    assert verdicts(result)["database"] == "fault"
    assert verdicts(result)["cookies"] == "ok"
    assert "hidden-password" not in result.stdout + result.stderr


def test_a_schema_that_was_never_made_is_a_fault(make_database: MakeDatabase) -> None:
    assert verdicts(run(make_database(), "doctor", "--json"))["schema"] == "fault"


def test_settings_that_are_not_usable_end_every_command() -> None:
    result = run("mysql://x", "doctor")

    assert result.returncode == 1
    assert "DATABASE_URL: must begin with postgresql://" in result.stderr


def findings(start_service: MakeService, clock: Any = None, **settings: Any) -> dict[str, Finding]:
    services = start_service(**({"clock": clock} if clock else {}), **settings).app.state.services
    examined = DoctorService(services.settings, services.health.db, services.health, services.clock).examine()
    return {finding.subject: finding for finding in examined}


def test_a_clock_that_is_off_is_a_warning(start_service: MakeService) -> None:
    clock = MovableClock()
    clock.move(seconds=-60)

    assert findings(start_service, clock)["clock"].verdict == "warning"


def test_a_newer_schema_is_a_warning(start_service: MakeService, url: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    engine.dispose()

    assert findings(start_service, database_url=url)["schema"].verdict == "warning"


def test_an_old_server_is_a_fault(start_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OLDEST_SERVER", 99)

    assert findings(start_service)["database"].verdict == "fault"


def test_origins_of_several_sites_are_a_warning(start_service: MakeService) -> None:
    origins = ["https://board.example.com", "https://board.example.org"]

    assert findings(start_service, cors_origins=origins)["cookies"].verdict == "warning"
    assert findings(start_service, cors_origins=origins[:1])["cookies"].verdict == "ok"


def test_a_short_key_is_a_warning_in_development(start_service: MakeService) -> None:
    assert findings(start_service, secret_key="short")["secret"].verdict == "warning"


def test_prune_deletes_what_is_over(start_service: MakeService, url: str) -> None:
    api = start_service(database_url=url)
    api.log_in()
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("UPDATE refresh_tokens SET expires_at = now() - interval '1 second'"))
        first = run(url, "sessions", "prune")
        second = run(url, "sessions", "prune", "--json")
        assert connection.execute(text("SELECT count(*) FROM refresh_tokens")).scalar_one() == 0
    engine.dispose()

    assert (first.returncode, first.stdout) == (0, "1 sessions and 0 audit events deleted.\n")
    assert json.loads(second.stdout) == {"sessions": 0, "audit_events": 0}


def test_prune_without_a_database_says_so() -> None:
    result = run(NOWHERE, "sessions", "prune")

    assert result.returncode == 1
    assert result.stdout == ""
    assert "The database does not answer: " in result.stderr
    assert "Traceback" not in result.stderr


def test_the_first_admin_is_one_command(url: str, start_service: MakeService) -> None:
    result = run(url, "users", "create", "Ada@Example.com", "--role", "admin", "--password-stdin",
                 "--json", stdin=f"{PASSWORD}\n")  # fmt: skip

    assert result.returncode == 0, result.stderr
    user = json.loads(result.stdout)
    assert (user["email"], user["role"], user["is_active"]) == ("ada@example.com", "admin", True)
    api = start_service(database_url=url)
    token = api.log_in("ada@example.com")["access_token"]
    assert api.http.get("/api/v1/admin/users", headers=bearer(token)).status_code == 200
    assert PASSWORD not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "word"),
    [
        (["users", "create", "ada@example.com", "--password-stdin"], "tiny\n", 1, "at least 8 characters"),
        (["users", "create", "ada", "--password-stdin"], f"{PASSWORD}\n", 2, "email"),
        (["users", "create", "ada@example.com", "--role", "root"], "", 2, "root"),
        (["users", "disable", "nobody@example.com"], "", 1, "no such user"),
        (["users", "set-role", NOBODY, "admin"], "", 1, "no such user"),
        (["users", "delete", NOBODY], "", 1, "no such user"),
        (["sessions", "revoke", NOBODY], "", 1, "no such user"),
        (["users", "import", "/nowhere.csv"], "", 2, "/nowhere.csv"),
        (["users", "create", "ada@example.com", "--password", PASSWORD], "", 2, "--password"),
    ],
)
def test_what_cannot_be_done_is_said(
    database_url: str, arguments: list[str], stdin: str, status: int, word: str
) -> None:
    result = run(database_url, *arguments, stdin=stdin)

    assert result.returncode == status, result.stderr
    assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_accounts_are_worked_on_while_the_service_runs(url: str, start_service: MakeService) -> None:
    api = start_service(database_url=url)
    email = api.new_user()
    pair = api.log_in(email)
    user_id = api.me(pair["access_token"]).json()["id"]

    assert run(url, "users", "set-role", email, "guest").returncode == 0
    assert api.me(pair["access_token"]).json()["role"] == "guest"
    (listed,) = json.loads(run(url, "sessions", "list", str(user_id), "--json").stdout)
    revoked = run(url, "sessions", "revoke", email, "--session", listed["id"], "--json")
    assert json.loads(revoked.stdout) == {"ended": 1}
    assert run(url, "sessions", "revoke", email, "--session", listed["id"]).returncode == 1
    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert api.token(email).status_code == 200
    assert run(url, "users", "disable", email).returncode == 0
    assert api.token(email).status_code == 401
    assert run(url, "users", "enable", email).returncode == 0
    changed = run(url, "users", "set-password", email, "--password-stdin", stdin="a new password\n")
    assert changed.returncode == 0
    assert api.token(email).status_code == 401
    assert api.token(email, "a new password").status_code == 200
    aborted = run(url, "users", "delete", email)
    assert aborted.returncode == 1
    assert json.loads(run(url, "users", "delete", email, "--yes", "--json").stdout) == {"deleted": user_id}
    assert api.token(email, "a new password").status_code == 401


def test_the_last_admin_stays_here_too(url: str) -> None:
    run(url, "users", "create", "ada@example.com", "--role", "admin", "--password-stdin", stdin=PASSWORD)

    for arguments in (["set-role", "ada@example.com", "user"], ["disable", "1"], ["delete", "1", "--yes"]):
        result = run(url, "users", *arguments)
        assert (result.returncode, result.stderr) == (
            1,
            "The last active admin cannot be demoted, disabled or deleted.\n",
        )


def test_users_are_listed_and_filtered(url: str, start_service: MakeService) -> None:
    api = start_service(database_url=url)
    for name in ("anna", "bert"):
        api.register(f"{name}@example.com")
    run(url, "users", "disable", "bert@example.com")

    everybody = json.loads(run(url, "users", "list", "--json").stdout)
    assert [user["email"] for user in everybody] == ["anna@example.com", "bert@example.com"]
    assert json.loads(run(url, "users", "list", "--json", "--role", "admin").stdout) == []
    lines = run(url, "users", "list", "--disabled").stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].split()[1:3] == ["user", "disabled"]
    assert run(url, "users", "list", "--q", "anna", "--role", "user").stdout.count("\n") == 1


HASH = "$2b$04$SWlt4H7Dn6Pjeu2KRCFm7.YbHTAwUfkhpBvwpaujr8CBWp2SFhMnW"


def write(path: Path, *rows: str, header: str = "email,hashed_password,role") -> str:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def test_imported_users_log_in_with_their_passwords(
    url: str, start_service: MakeService, tmp_path: Path
) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    file = write(tmp_path / "users.csv", f"Ada@Example.com,{hashed},admin", f"bob@example.com,{hashed},user")

    result = run(url, "users", "import", file, "--json")

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"imported": 2, "skipped": []}
    api = start_service(database_url=url)
    assert {api.token(email).status_code for email in ("ada@example.com", "bob@example.com")} == {200}


def test_an_import_is_all_or_nothing_unless_told_otherwise(url: str, tmp_path: Path) -> None:
    file = write(
        tmp_path / "users.csv",
        f"ada@example.com,{HASH},user",
        f"no email,{HASH},user",
        "bob@example.com,plain text,user",
        f"eve@example.com,{HASH},root",
        f"ADA@example.com,{HASH},user",
        f"dan@example.com,{HASH[:-5]},user",
        "short@example.com",
        f"tom@example.com,{HASH},guest",
    )

    refused = run(url, "users", "import", file, "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["imported"] == 0
    assert run(url, "users", "list").stdout == ""
    kept = run(url, "users", "import", file, "--keep-going")

    assert kept.returncode == 1
    assert kept.stdout == "2 users imported, 6 rows skipped.\n"
    reported = json.loads(refused.stdout)["skipped"]
    assert sorted(each["line"] for each in reported) == [3, 4, 5, 6, 7, 8]
    assert all(f"line {each['line']}: " in kept.stderr for each in reported)
    assert {each["line"]: each["reason"] for each in reported}[6] == "registered, or twice in the file"
    assert "plain text" not in kept.stdout + kept.stderr
    names = {line.split()[-1] for line in run(url, "users", "list").stdout.splitlines()}
    assert names == {"ada@example.com", "tom@example.com"}


@pytest.mark.parametrize(
    "content",
    [b"", b"email,role\na@b.c,user\n", b"email,hashed_password,role\n\xff\xfe@example.com,x,user\n"],
)
def test_a_file_that_is_no_such_table_is_refused(database_url: str, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "users.csv").write_bytes(content)

    result = run(database_url, "users", "import", str(tmp_path / "users.csv"))

    assert result.returncode == 1
    assert "users.csv" in result.stderr
    assert "Traceback" not in result.stderr


def test_ten_thousand_users_are_imported_in_seconds(url: str, tmp_path: Path) -> None:
    rows = [f"user{number}@example.com,{HASH},user" for number in range(10_000)]
    file = write(tmp_path / "users.csv", *rows)

    begin = time.monotonic()
    result = run(url, "users", "import", file)

    assert result.stdout == "10000 users imported, 0 rows skipped.\n"
    assert time.monotonic() - begin < 15  # 5 on a machine that does nothing else
