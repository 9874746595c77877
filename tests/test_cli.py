"""The operators' commands, as they call them."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import Engine, make_url, text

from app.devdb import PROJECT
from app.security import common_passwords
from app.services.operations.doctor import Finding, database
from tests.support import (
    NOWHERE,
    PASSWORD,
    PATIENCE_SECONDS,
    SECRET_KEY,
    MakeDatabase,
    MakeService,
    MovableClock,
    bearer,
    clean_environment,
    error_of,
    look_into,
)
from tests.support.commands import Ended, run_command

RunCommand = Callable[..., Ended]
JWT_SECRET = "a secret of the tests that siblings have as well"
NOBODY = "999999999999"


@pytest.fixture
def run(fresh_database_url: str) -> RunCommand:
    """Runs commands on the fresh database."""
    return partial(run_command, fresh_database_url)


@pytest.fixture(scope="module")
def sound_database_url(make_database: MakeDatabase) -> str:
    """Without the signing keys of other tests, of which the doctor has something to say."""
    return make_database(migrated=True)


SOUND = {
    "JWT_SECRET": JWT_SECRET,
    "BCRYPT_ROUNDS": "12",
    "METRICS_TOKEN": "a token of the tests alone",
    "FORWARDED_ALLOW_IPS": "192.0.2.1",
    "SMTP_URL": "smtps://mail.example.com",
    "MAIL_FROM": "Kanban <no-reply@example.com>",
    "PUBLIC_URL": "https://auth.example.com",
}
"""Settings that the doctor has nothing to say of."""


def verdicts(result: Ended) -> dict[str, str]:
    """By subject; of one that has several, the worst."""
    found = sorted(
        json.loads(result.stdout), key=lambda each: ["ok", "warning", "fault"].index(each["verdict"])
    )
    return {finding["subject"]: finding["verdict"] for finding in found}


def test_the_doctor_finds_no_fault_in_a_sound_deployment(sound_database_url: str) -> None:
    result = run_command(sound_database_url, "doctor", **SOUND)

    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    subjects = [
        *("settings", "secret", "secret", "signing", "siblings"),
        *("hashing", "passwords", "blocklist", "throttles", "scraping"),
        *("database", "writes", "schema", "timeouts", "clock", "connections", "keys"),
        *("mail", "outbox"),
        *("proxies", "cookies", "metrics"),
    ]
    assert [(verdict, subject) for verdict, subject, _ in lines] == [("ok", each) for each in subjects]


@pytest.mark.parametrize(
    ("settings", "subject", "word"),
    [
        ({"ENVIRONMENT": "development", "SECRET_KEY": "a" * 64}, "secret", "SECRET_KEY has few different"),
        ({"ENVIRONMENT": "development", "JWT_SECRET": "a" * 64}, "secret", "JWT_SECRET has few different"),
        ({"ENVIRONMENT": "development", "SECRET_KEY_FALLBACKS": "short"}, "secret", "1, has 5 bytes of 32"),
        ({"ENVIRONMENT": "development", "JWT_ALGORITHM": "HS512"}, "signing", "64 bytes"),
        ({"BCRYPT_ROUNDS": "11"}, "hashing", "2 times cheaper"),
        ({"ENVIRONMENT": "development", "PASSWORD_MIN_LENGTH": "7"}, "passwords", "7 of 8"),
        ({"PASSWORD_BLOCKLIST": "false"}, "blocklist", "common passwords are accepted"),
        ({"THROTTLES": "false"}, "throttles", "guessed as fast as they are hashed"),
        ({"ENVIRONMENT": "development", "METRICS_TOKEN": "short"}, "scraping", "5 characters of 16"),
        ({"FORWARDED_ALLOW_IPS": ""}, "proxies", "everybody has the proxy's address"),
        ({"FORWARDED_ALLOW_IPS": "*"}, "proxies", "chooses the address"),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.0/8, 0.0.0.0/0"}, "proxies", "chooses the address"),
        ({"FORWARDED_ALLOW_IPS": "::/0"}, "proxies", "chooses the address"),
        ({"FORWARDED_ALLOW_IPS": "127.0.0.1,proxy"}, "proxies", "in proxy: it matches nobody"),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.5/8"}, "proxies", "in 10.0.0.5/8: it matches nobody"),
        ({"THROTTLE_LOGIN_ACCOUNT": "9999/1s"}, "throttles", "THROTTLE_LOGIN_ACCOUNT"),
    ],
)
def test_what_weakens_a_deployment_is_a_warning_of_the_doctor(
    sound_database_url: str, settings: dict[str, str], subject: str, word: str
) -> None:
    result = run_command(sound_database_url, "doctor", "--json", **(SOUND | settings))

    (unsound,) = [each for each in json.loads(result.stdout) if each["verdict"] != "ok"]
    assert (unsound["verdict"], unsound["subject"], result.returncode) == ("warning", subject, 0)
    assert word in unsound["text"]


def test_to_the_doctor_a_setting_of_another_project_is_a_warning(sound_database_url: str) -> None:
    foreign = {"ALLOWED_ORIGINS": "https://hidden.example.com", "BCRYPT_ROUNDS": "12", "JWT_SECRET_KEY": "x"}

    result = run_command(sound_database_url, "doctor", "--json", **(SOUND | foreign))

    (unsound,) = [each for each in json.loads(result.stdout) if each["verdict"] != "ok"]
    assert (
        unsound["text"] == "ALLOWED_ORIGINS is none of this service's: set CORS_ORIGINS"
    )  # JWT_SECRET is set


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({"WEB_CONCURRENCY": "200"}, "connections"),
        ({"CORS_ORIGINS": "http://board.example.com"}, "cookies"),
        ({"WEB_CONCURRENCY": "2", "PROMETHEUS_MULTIPROC_DIR": "/proc/nowhere"}, "metrics"),
    ],
)
def test_a_fault_that_the_doctor_finds_is_named_and_ends_with_status_1(
    sound_database_url: str, settings: dict[str, str], subject: str
) -> None:
    result = run_command(sound_database_url, "doctor", "--json", **(SOUND | settings))

    assert result.returncode == 1
    assert [name for name, verdict in verdicts(result).items() if verdict == "fault"] == [subject]


def test_the_doctor_examines_the_rest_without_a_database() -> None:
    result = run_command(NOWHERE, "doctor", "--json")

    assert result.returncode == 1
    assert verdicts(result)["database"] == "fault"
    assert verdicts(result)["cookies"] == "ok"
    assert "hidden-password" not in result.stdout + result.stderr


def test_to_the_doctor_a_schema_that_was_never_made_is_a_fault(make_database: MakeDatabase) -> None:
    assert verdicts(run_command(make_database(), "doctor", "--json"))["schema"] == "fault"


def test_settings_that_are_not_usable_end_every_command() -> None:
    result = run_command("mysql://x", "doctor")

    assert result.returncode == 1
    assert "DATABASE_URL: must begin with postgresql://" in result.stderr


def findings(start_service: MakeService, clock: Any = None, **settings: Any) -> dict[str, Finding]:
    examined = start_service(**({"clock": clock} if clock else {}), **settings).operator.doctor.examine()
    return {finding.subject: finding for finding in examined}


def test_to_the_doctor_a_clock_that_is_off_is_a_warning(start_service: MakeService) -> None:
    clock = MovableClock()
    clock.move(seconds=-60)

    assert findings(start_service, clock)["clock"].verdict == "warning"


def test_to_the_doctor_a_newer_schema_is_a_warning(
    start_service: MakeService, fresh_database_url: str
) -> None:
    engine = look_into(fresh_database_url)
    with engine.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    engine.dispose()

    assert findings(start_service, database_url=fresh_database_url)["schema"].verdict == "warning"


def test_to_the_doctor_an_old_database_server_is_a_fault(
    start_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLDEST_SERVER", 99)

    assert findings(start_service)["database"].verdict == "fault"


def test_to_the_doctor_origins_of_several_sites_are_a_warning(start_service: MakeService) -> None:
    origins = ["https://board.example.com", "https://board.example.org"]

    assert findings(start_service, cors_origins=origins)["cookies"].verdict == "warning"
    assert findings(start_service, cors_origins=origins[:1])["cookies"].verdict == "ok"


def test_to_the_doctor_a_blocklist_that_is_missing_is_a_fault(
    start_service: MakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(common_passwords, "FILE", tmp_path / "missing")
    common_passwords._fingerprints.cache_clear()

    assert findings(start_service)["blocklist"].verdict == "fault"


def set_for_everybody(fresh_database: Engine, setting: str) -> None:
    with fresh_database.connect() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET {setting}"))


def test_to_the_doctor_a_read_only_database_is_a_fault(run: RunCommand, fresh_database: Engine) -> None:
    assert verdicts(run("doctor", "--json"))["writes"] == "ok"
    set_for_everybody(fresh_database, "default_transaction_read_only = on")

    result = run("doctor", "--json")

    assert [name for name, verdict in verdicts(result).items() if verdict == "fault"] == ["writes"]
    assert result.returncode == 1


def test_to_the_doctor_missing_timeouts_are_a_fault(start_service: MakeService, database_url: str) -> None:
    url = make_url(database_url).update_query_dict({"options": "-c statement_timeout=0 -c lock_timeout=0"})

    missing = findings(start_service, database_url=url.render_as_string(hide_password=False))["timeouts"]

    assert missing.verdict == "fault"
    assert missing.text.startswith("no statement_timeout and no lock_timeout")
    assert findings(start_service)["timeouts"].text == "statement_timeout 5s, lock_timeout 3s"


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, "warning"),
        ({"JWT_SECRET": SECRET_KEY}, "warning"),
        ({"JWT_SECRET": JWT_SECRET, "SECRET_KEY_FALLBACKS": json.dumps([JWT_SECRET])}, "warning"),
        ({"JWT_SECRET": JWT_SECRET}, "ok"),
        ({"ENVIRONMENT": "development"}, "ok"),
    ],
)
def test_the_doctor_warns_where_siblings_can_sign_what_is_ours(
    sound_database_url: str, settings: dict[str, str], verdict: str
) -> None:
    result = run_command(sound_database_url, "doctor", "--json", **settings)

    assert verdicts(result)["siblings"] == verdict


def test_prune_deletes_what_is_over(
    start_service: MakeService, run: RunCommand, fresh_database_url: str
) -> None:
    api = start_service(database_url=fresh_database_url)
    api.log_in()
    engine = look_into(fresh_database_url)
    with engine.connect() as connection:
        connection.execute(text("UPDATE refresh_tokens SET expires_at = now() - interval '1 second'"))
        first = run("sessions", "prune")
        second = run("sessions", "prune", "--json")
        assert connection.execute(text("SELECT count(*) FROM refresh_tokens")).scalar_one() == 0
    engine.dispose()

    assert (first.returncode, first.stdout) == (0, "1 sessions and 0 audit events deleted.\n")
    assert json.loads(second.stdout) == {"sessions": 0, "audit_events": 0}


def test_prune_without_a_database_says_so() -> None:
    result = run_command(NOWHERE, "sessions", "prune")

    assert result.returncode == 1
    assert result.stdout == ""
    assert "The database does not answer: " in result.stderr
    assert "Traceback" not in result.stderr


def test_the_first_admin_is_one_command(
    run: RunCommand, fresh_database_url: str, start_service: MakeService
) -> None:
    result = run("users", "create", "Ada@Example.com", "--role", "admin", "--password-stdin",
                 "--json", stdin=f"{PASSWORD}\n")  # fmt: skip

    assert result.returncode == 0, result.stderr
    user = json.loads(result.stdout)
    assert (user["email"], user["role"], user["is_active"]) == ("ada@example.com", "admin", True)
    api = start_service(database_url=fresh_database_url)
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
def test_a_command_that_cannot_be_done_says_why(
    database_url: str, arguments: list[str], stdin: str, status: int, word: str
) -> None:
    result = run_command(database_url, *arguments, stdin=stdin)

    assert result.returncode == status, result.stderr
    assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_commands_change_accounts_while_the_service_runs(
    run: RunCommand, fresh_database_url: str, start_service: MakeService
) -> None:
    api = start_service(database_url=fresh_database_url)
    email = api.new_user()
    pair = api.log_in(email)
    user_id = api.me(pair["access_token"]).json()["id"]

    assert run("users", "set-role", email, "guest").returncode == 0
    assert api.me(pair["access_token"]).json()["role"] == "guest"
    (listed,) = json.loads(run("sessions", "list", str(user_id), "--json").stdout)
    revoked = run("sessions", "revoke", email, "--session", listed["id"], "--json")
    assert json.loads(revoked.stdout) == {"ended": 1}
    assert run("sessions", "revoke", email, "--session", listed["id"]).returncode == 1
    assert error_of(api.refresh(pair["refresh_token"])) == (401, "refresh_token_reused")
    assert api.token(email).status_code == 200
    assert run("users", "disable", email).returncode == 0
    assert api.token(email).status_code == 401
    assert run("users", "enable", email).returncode == 0
    changed = run("users", "set-password", email, "--password-stdin", stdin="a new password\n")
    assert changed.returncode == 0
    assert api.token(email).status_code == 401
    assert api.token(email, "a new password").status_code == 200
    aborted = run("users", "delete", email)
    assert aborted.returncode == 1
    assert json.loads(run("users", "delete", email, "--yes", "--json").stdout) == {"deleted": user_id}
    assert api.token(email, "a new password").status_code == 401


def test_no_control_character_of_a_user_agent_reaches_the_operators_terminal(
    run: RunCommand, fresh_database_url: str, fresh_database: Engine, start_service: MakeService
) -> None:
    api = start_service(database_url=fresh_database_url)
    email = api.new_user()
    form = {"username": email, "password": PASSWORD}
    api.http.post("/api/v1/token", data=form, headers=[(b"User-Agent", b"Tab/1 \x9b31mred")])

    with fresh_database.connect() as connection:
        stored = connection.execute(text("SELECT user_agent FROM refresh_tokens")).scalar_one()
        older = "Tab/1 \x1b]0;title\x07 \x9b31mred\x7f"  # as a release before this one stored it
        connection.execute(text("UPDATE refresh_tokens SET user_agent = :agent"), {"agent": older})
    as_text, as_json = run("sessions", "list", email).stdout, run("sessions", "list", email, "--json").stdout

    assert stored == "Tab/1  31mred"
    assert r"Tab/1 \u001b]0;title\u0007 \u009b31mred\u007f" in as_text
    assert json.loads(as_json)[0]["user_agent"] == older
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", as_text + as_json) == []


def test_no_command_takes_the_last_admin_away(run: RunCommand) -> None:
    run("users", "create", "ada@example.com", "--role", "admin", "--password-stdin", stdin=PASSWORD)

    for arguments in (["set-role", "ada@example.com", "user"], ["disable", "1"], ["delete", "1", "--yes"]):
        result = run("users", *arguments)
        assert (result.returncode, result.stderr) == (
            1,
            "The last active admin cannot be demoted, disabled or deleted.\n",
        )


def test_a_command_lists_and_filters_users(
    run: RunCommand, fresh_database_url: str, start_service: MakeService
) -> None:
    api = start_service(database_url=fresh_database_url)
    for name in ("anna", "bert"):
        api.register(f"{name}@example.com")
    run("users", "disable", "bert@example.com")

    everybody = json.loads(run("users", "list", "--json").stdout)
    assert [user["email"] for user in everybody] == ["anna@example.com", "bert@example.com"]
    assert json.loads(run("users", "list", "--json", "--role", "admin").stdout) == []
    lines = run("users", "list", "--disabled").stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].split()[1:3] == ["user", "disabled"]
    assert run("users", "list", "--q", "anna", "--role", "user").stdout.count("\n") == 1


def start_cli(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=PROJECT,
        env=clean_environment(**settings),
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


@pytest.mark.slow
@pytest.mark.process
def test_the_commands_are_a_program_with_help_and_a_status(database_url: str) -> None:
    helped = start_cli("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "python -m app.cli" in helped.stdout
    assert all(name in helped.stdout for name in ("doctor", "users", "sessions"))

    refused = start_cli(
        "users", "disable", "nobody@example.com", DATABASE_URL=database_url, SECRET_KEY=SECRET_KEY
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "There is no such user, session, service or key.\n"


def test_a_command_leaves_the_logs_of_this_process_alone(run: RunCommand) -> None:
    """As the tests run it, beside services that log."""
    before = (structlog.get_config(), logging.getLogger().handlers[:], logging.getLogger().level)

    assert run("users", "list").returncode == 0

    assert (structlog.get_config(), logging.getLogger().handlers, logging.getLogger().level) == before


def test_a_schema_of_another_project_is_a_fault(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    with fresh_database.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'unknown'"))
        connection.execute(text("ALTER TABLE users RENAME hashed_password TO password"))

    finding = findings(start_service, database_url=fresh_database_url)["schema"]

    assert finding.verdict == "fault"
    assert "lacks users.hashed_password" in finding.text


@pytest.mark.slow
@pytest.mark.process
def test_the_commands_load_no_web_framework() -> None:
    program = (
        "import sys\n"
        "try:\n    import app.cli.__main__ as commands; commands.cli(['--help'])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT, env=clean_environment(), capture_output=True, check=True, text=True,
    )  # fmt: skip

    assert "doctor" in ended.stdout
    assert {"app.container", "typer"} <= set(ended.stderr.split())
    assert {"fastapi", "starlette", "uvicorn"}.isdisjoint(ended.stderr.split())
