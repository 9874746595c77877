"""Commands for operators: `python -m app.cli --help`. They work while the service runs."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO
from uuid import UUID

import typer

from app.application import VERSION, build_services
from app.clock import utc_now
from app.config import load_settings
from app.database import Database, connect, explain
from app.dependencies import Services
from app.errors import DatabaseUnavailable, NotFound, ServiceError
from app.logs import configure_logging
from app.metrics import Metrics
from app.models.sessions import EndReason
from app.models.users import Role
from app.security.emails import normalize_email
from app.services.admin import UserFilter
from app.services.audit import Actor, Client
from app.services.doctor import DoctorService
from app.services.imports import COLUMNS, ImportRefused, ImportService, Report
from app.services.users import Account

OPERATOR = Actor(None, Client(None, "app.cli"))
_PAGE = 1000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
User = Annotated[str, typer.Argument(help="An email or an id.", metavar="USER")]
PasswordStdin = Annotated[bool, typer.Option(help="Read the password from standard input.")]

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Commands for operators. They work while the service runs.",
)
users = typer.Typer(no_args_is_help=True)
sessions = typer.Typer(no_args_is_help=True)
cli.add_typer(users, name="users", help="Accounts.")
cli.add_typer(sessions, name="sessions", help="Login sessions.")


@contextmanager
def _services() -> Iterator[Services]:
    """Ends the command with a line on stderr and status 1 where it cannot do its work."""
    settings = load_settings()
    configure_logging(level="WARNING", json=settings.json_logs, stream=sys.stderr)
    database = Database(connect(settings.database_url.get_secret_value()))
    try:
        yield build_services(settings, database, Metrics(EndReason, VERSION), utc_now)
    except DatabaseUnavailable as error:
        raise SystemExit(f"The database does not answer: {explain(error)}") from None
    except NotFound:
        raise SystemExit("There is no such user or session.") from None
    except ServiceError as error:
        raise SystemExit(f"{error}.") from None
    finally:
        database.engine.dispose()


def _print(as_json: bool, data: Any, text: str) -> None:  # noqa: FBT001 — what every command was asked
    typer.echo(json.dumps(data, default=str) if as_json else text)


def _password(from_stdin: bool) -> str:  # noqa: FBT001 — likewise
    """Never an argument: others could read it in the list of processes."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _normalized(email: str) -> str:
    try:
        return normalize_email(email)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _find(services: Services, user: str) -> Account:
    if user.isascii() and user.isdecimal():
        return services.admin.get(int(user))
    return services.admin.find(_normalized(user))


def _line(account: Account) -> str:
    state = "active" if account.is_active else "disabled"
    return f"{account.id:>8}  {account.role:5}  {state:8}  {account.created_at:%Y-%m-%d}  {account.email}"


def _show(as_json: bool, account: Account) -> None:  # noqa: FBT001 — likewise
    _print(as_json, account._asdict(), _line(account))


@cli.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Check settings, database and workers; status 1 where there is a fault."""
    with _services() as services:
        examination = DoctorService(
            services.settings, services.health.db, services.health, services.clock
        ).examine()
        findings = list(examination)
    lines = (f"{finding.verdict:8} {finding.subject:12} {finding.text}" for finding in findings)
    _print(as_json, [finding._asdict() for finding in findings], "\n".join(lines))
    raise typer.Exit(any(finding.verdict == "fault" for finding in findings))


@users.command("create")
def create_user(
    email: str, *, role: Role = Role.USER, password_stdin: PasswordStdin = False, as_json: AsJson = False
) -> None:
    """Open an account: the first admin's, for one."""
    with _services() as services:
        address = _normalized(email)
        account = services.admin.create(OPERATOR, address, _password(password_stdin), role)
    _show(as_json, account)


@users.command("list")
def list_users(
    *,
    q: Annotated[str | None, typer.Option(help="How the email begins.")] = None,
    role: Role | None = None,
    active: Annotated[bool | None, typer.Option("--active/--disabled")] = None,
    as_json: AsJson = False,
) -> None:
    """List users in the order of their ids."""
    wanted, after, comma = UserFilter(q, role, active), 0, "["
    with _services() as services:
        while page := services.admin.list(wanted, after=after, limit=_PAGE):
            for account in page:
                typer.echo(comma if as_json else "", nl=False)
                _show(as_json, account)
                comma = ","
            after = page[-1].id
    if as_json:
        typer.echo("[]" if comma == "[" else "]")


@users.command("set-role")
def set_role(user: User, role: Role, *, as_json: AsJson = False) -> None:
    """Change a user's role; it shows in their next access token."""
    with _services() as services:
        account = services.admin.change(OPERATOR, _find(services, user).id, role=role)
    _show(as_json, account)


@users.command("disable")
def disable(user: User, *, as_json: AsJson = False) -> None:
    """End a user's sessions, and let them in no more."""
    with _services() as services:
        account = services.admin.change(OPERATOR, _find(services, user).id, is_active=False)
    _show(as_json, account)


@users.command("enable")
def enable(user: User, *, as_json: AsJson = False) -> None:
    """Let a user in again."""
    with _services() as services:
        account = services.admin.change(OPERATOR, _find(services, user).id, is_active=True)
    _show(as_json, account)


@users.command("set-password")
def set_password(user: User, *, password_stdin: PasswordStdin = False, as_json: AsJson = False) -> None:
    """Give a user another password, and end all their sessions."""
    with _services() as services:
        account = _find(services, user)
        services.admin.set_password(OPERATOR, account.id, _password(password_stdin))
    _show(as_json, account)


@users.command("delete")
def delete_user(
    user: User, *, yes: Annotated[bool, typer.Option(help="Do not ask.")] = False, as_json: AsJson = False
) -> None:
    """Delete a user and their sessions for good."""
    with _services() as services:
        account = _find(services, user)
        if not yes:
            typer.confirm(f"Delete {account.email}?", abort=True, err=True)
        services.admin.delete(OPERATOR, account.id)
    _print(as_json, {"deleted": account.id}, f"{account.email} is deleted.")


@users.command("import")
def import_users(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    *,
    keep_going: Annotated[bool, typer.Option(help="Import what is usable, and skip the rest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import accounts from a CSV file with the columns email,hashed_password,role.

    Hashes are bcrypt's ($2b$...) or our own; users log in with the passwords that they have.
    Without --keep-going either every row is imported or none; status 1 where some was not.
    """
    with _services() as services, _reading(file, progress=not as_json) as text:
        rows = csv.DictReader(text)
        service = ImportService(
            services.admin.db, services.users.passwords.scheme, services.clock, services.metrics
        )
        try:
            missing = set(COLUMNS) - set(rows.fieldnames or ())
            if missing:
                raise SystemExit(f"{file} has no column {', '.join(sorted(missing))} in its first line.")
            report = service.run(((rows.line_num, row) for row in rows), keep_going=keep_going)
        except ImportRefused as refused:
            report = refused.report
        except (csv.Error, UnicodeDecodeError) as error:
            raise SystemExit(f"{file}, line {rows.line_num}: {error}; nothing was imported.") from None
    _print_report(report, as_json)
    raise typer.Exit(bool(report.skipped))


def _reading(file: Path, *, progress: bool) -> AbstractContextManager[TextIO]:
    from rich import console, progress as bar  # noqa: I001, PLC0415 — no other command needs it

    return bar.open(
        file,
        "r",
        encoding="utf-8-sig",
        newline="",
        description=file.name,
        console=console.Console(stderr=True),
        disable=not progress,
    )


def _print_report(report: Report, as_json: bool) -> None:  # noqa: FBT001 — likewise
    skipped = [each._asdict() for each in report.skipped]
    if not as_json:
        for each in report.skipped:
            typer.echo(f"line {each.line}: {each.email}: {each.reason}", err=True)
    text = f"{report.imported} users imported, {len(skipped)} rows skipped."
    _print(as_json, {"imported": report.imported, "skipped": skipped}, text)


@sessions.command("list")
def list_sessions(user: User, *, as_json: AsJson = False) -> None:
    """List a user's live sessions, the last used first."""
    with _services() as services:
        rows = services.admin.list_sessions(_find(services, user).id)
    lines = (
        f"{row.id}  {row.last_used_at:%Y-%m-%d %H:%M}  {row.ip_address or '-'}  {row.user_agent or '-'}"
        for row in rows
    )
    _print(as_json, [row._asdict() for row in rows], "\n".join(lines) or "None.")


@sessions.command("revoke")
def revoke_sessions(
    user: User,
    *,
    session: Annotated[UUID | None, typer.Option(help="This one alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """End a user's sessions."""
    with _services() as services:
        number = services.admin.end_sessions(OPERATOR, _find(services, user).id, session)
    _print(as_json, {"ended": number}, f"{number} sessions ended.")


@sessions.command()
def prune(*, as_json: AsJson = False) -> None:
    """Delete sessions past their end, ended ones past their retention, and old audit events."""
    with _services() as services:
        swept = services.cleanup.sweep()
    text = "Another process is at it."
    if swept:
        text = f"{swept.sessions} sessions and {swept.audit_events} audit events deleted."
    _print(as_json, swept._asdict() if swept else None, text)


if __name__ == "__main__":
    cli(prog_name="python -m app.cli")
