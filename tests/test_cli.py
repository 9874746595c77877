"""The operators' commands, as they call them."""

import json
import subprocess
import sys
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from app.devdb import PROJECT
from app.services import doctor
from app.services.doctor import DoctorService, Finding
from tests.conftest import SECRET_KEY, MakeDatabase, MakeService, alembic_config
from tests.support import CLEAN_ENVIRONMENT, MovableClock

NOWHERE = "postgresql://somebody:hidden-password@127.0.0.1:1/nowhere"


def run(database_url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET_KEY}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], cwd=PROJECT,
        env=CLEAN_ENVIRONMENT | environment | settings,
        capture_output=True, check=False, text=True, timeout=60,
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


def test_a_newer_schema_is_a_warning(start_service: MakeService, make_database: MakeDatabase) -> None:
    url = make_database()
    command.upgrade(alembic_config(url), "head")
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


def test_prune_deletes_what_is_over(start_service: MakeService, make_database: MakeDatabase) -> None:
    url = make_database()
    command.upgrade(alembic_config(url), "head")
    api = start_service(database_url=url)
    api.log_in()
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("UPDATE refresh_tokens SET expires_at = now() - interval '1 second'"))
        first = run(url, "sessions", "prune")
        second = run(url, "sessions", "prune", "--json")
        assert connection.execute(text("SELECT count(*) FROM refresh_tokens")).scalar_one() == 0
    engine.dispose()

    assert (first.returncode, first.stdout) == (0, "1 sessions deleted.\n")
    assert json.loads(second.stdout) == {"purged": 0}


def test_prune_without_a_database_says_so() -> None:
    result = run(NOWHERE, "sessions", "prune")

    assert result.returncode == 1
    assert result.stdout == ""
    assert "The database does not answer: " in result.stderr
    assert "Traceback" not in result.stderr
