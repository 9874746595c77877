"""The service as a database role that may not change the schema, made as docs/operations.md says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import ProgrammingError

from app.devdb import PROJECT
from app.security.passwords import PasswordHasher
from tests.support import (
    HEALTH,
    PASSWORD,
    MakeService,
    MovableClock,
    StartProcess,
    alembic_config,
    bearer,
    error_of,
    look_into,
)
from tests.support.accounts import Admin, register
from tests.support.commands import run_command
from tests.support.siblings import Sibling

DOCUMENT = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")


class Roles(NamedTuple):
    """URLs of one database, for each role."""

    superuser: str
    owner: str
    app: str


def documented(number: int, name: str) -> list[str]:
    """The statements of a block of SQL in *Database roles*, with names of this run's own."""
    section = DOCUMENT.split("## Database roles\n")[1].split("\n##")[0]
    block = re.findall(r"(?s)```sql\n(.*?)```", section)[number]
    statements = re.sub(r"\bkanban_(owner|app|auth)\b", rf"{name}_\1", block).split(";")
    return [statement for statement in map(str.strip, statements) if statement]


@pytest.fixture
def roles(server_url: URL) -> Iterator[Roles]:
    name = f"roles_{uuid4().hex[:12]}"
    maintenance = look_into(server_url)
    inside = look_into(server_url.set(database=f"{name}_auth"))
    with maintenance.connect() as connection:
        for statement in documented(0, name):
            connection.execute(text(statement))
        with inside.connect() as new:
            for statement in documented(1, name):
                new.execute(text(statement))
        inside.dispose()
        database = server_url.set(database=f"{name}_auth")
        owner = database.set(username=f"{name}_owner", password="change this")
        app = database.set(username=f"{name}_app", password="and this")
        yield Roles(*(url.render_as_string(hide_password=False) for url in (database, owner, app)))
        connection.execute(text(f"DROP DATABASE {name}_auth WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {name}_owner, {name}_app"))
    maintenance.dispose()


def test_the_service_does_its_work_as_a_role_that_cannot_change_the_schema(
    roles: Roles, start_service: MakeService
) -> None:
    command.upgrade(alembic_config(roles.owner), "head")
    clock = MovableClock()
    service = start_service(database_url=roles.app, clock=clock, throttles=True)
    superuser = look_into(roles.superuser)

    admin = Admin(service, superuser)
    user = register(service)
    pair = service.refresh(service.log_in(user["email"])["refresh_token"]).json()
    headers = bearer(pair["access_token"])
    passwords = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}

    assert service.http.get(HEALTH).status_code == 200
    assert error_of(service.token(user["email"], "a wrong password")) == (401, "invalid_credentials")
    assert service.me(pair["access_token"]).status_code == 200
    assert error_of(service.http.get("/api/v1/admin/users", headers=headers)) == (403, "forbidden")
    assert service.http.put("/api/v1/me/password", json=passwords, headers=headers).status_code == 200
    assert admin.change(user["id"], role="guest").status_code == 200
    assert admin.change(user["id"], is_active=False).status_code == 200
    assert admin.call("DELETE", f"/{user['id']}").status_code == 204
    audit = service.http.get("/api/v1/admin/audit", headers=bearer(admin.token)).json()
    assert {"user.deleted", "login.failed", "admin.refused"} <= {event["event"] for event in audit}
    assert service.log_out(admin.token).status_code == 204
    assert {item["reason"] for item in Sibling(service).read()[0]} >= {"logout_all", "user_deleted"}
    clock.move(days=400)
    pruned = service.operator.cleanup.prune()
    assert pruned is not None
    assert pruned.audit_events > 0
    superuser.dispose()


def test_the_role_of_the_service_cannot_change_the_schema(roles: Roles) -> None:
    command.upgrade(alembic_config(roles.owner), "head")
    engine = look_into(roles.app)

    with engine.connect() as connection:
        for forbidden in (
            "CREATE TABLE mine (id int)",
            "ALTER TABLE users ADD COLUMN mine int",
            "DROP TABLE users",
            "TRUNCATE audit_events",
            "CREATE ROLE mine",
        ):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                connection.execute(text(forbidden))
    engine.dispose()


def test_the_doctor_finds_the_database_sound_as_the_role_of_the_service(roles: Roles) -> None:
    command.upgrade(alembic_config(roles.owner), "head")

    result = run_command(roles.app, "doctor")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "at the code's newest revision" in result.stdout


def test_the_role_of_the_service_imports_users_with_their_ids(roles: Roles, tmp_path: Path) -> None:
    command.upgrade(alembic_config(roles.owner), "head")
    hashed = PasswordHasher(4).hash(PASSWORD)
    (tmp_path / "users.csv").write_text(f'id,email,hashed_password\n7,ada@example.com,"{hashed}"\n')

    result = run_command(roles.app, "users", "import", str(tmp_path / "users.csv"))

    assert (result.returncode, result.stdout) == (0, "1 user imported, 0 rows skipped.\n"), result.stderr


@pytest.mark.slow
def test_the_start_migrates_as_the_owner_and_serves_as_the_role_of_the_service(
    roles: Roles, start_process: StartProcess
) -> None:
    started = start_process(roles.app, MIGRATION_DATABASE_URL=roles.owner).serves()

    assert started.register().status_code == 201
    owner = make_url(roles.owner).username
    engine = look_into(roles.superuser)
    with engine.connect() as connection:
        owners = connection.scalars(text("SELECT tableowner FROM pg_tables WHERE schemaname = 'public'"))
        assert set(owners) == {owner}
        served = "SELECT usename FROM pg_stat_activity WHERE application_name = 'kanban-auth'"
        clients = connection.scalars(text(f"{served} AND datname = current_database()"))
        assert set(clients) == {make_url(roles.app).username}
    engine.dispose()
