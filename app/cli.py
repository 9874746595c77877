"""Commands for operators: `python -m app.cli --help`. They work while the service runs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from app.application import VERSION, build_services
from app.clock import utc_now
from app.config import load_settings
from app.database import Database, connect, explain
from app.dependencies import Services
from app.errors import DatabaseUnavailable
from app.logs import configure_logging
from app.metrics import Metrics
from app.models.sessions import EndReason
from app.services.doctor import DoctorService

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Commands for operators. They work while the service runs.",
)
sessions = typer.Typer(no_args_is_help=True)
cli.add_typer(sessions, name="sessions", help="Login sessions.")


@contextmanager
def _services() -> Iterator[Services]:
    """Ends the command with a line on stderr and status 1 where it cannot do its work."""
    settings = load_settings()
    configure_logging(level=settings.log_level, json=settings.json_logs, stream=sys.stderr)
    database = Database(connect(settings.database_url.get_secret_value()))
    try:
        yield build_services(settings, database, Metrics(EndReason, VERSION), utc_now)
    except DatabaseUnavailable as error:
        raise SystemExit(f"The database does not answer: {explain(error)}") from None
    finally:
        database.engine.dispose()


@cli.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Check settings, database and workers; status 1 where there is a fault."""
    with _services() as services:
        examination = DoctorService(
            services.settings, services.health.db, services.health, services.clock
        ).examine()
        findings = list(examination)
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{finding.verdict:8} {finding.subject:12} {finding.text}")
    raise typer.Exit(any(finding.verdict == "fault" for finding in findings))


@sessions.command()
def prune(*, as_json: AsJson = False) -> None:
    """Delete sessions past their end, and ended ones past their retention."""
    with _services() as services:
        purged = services.cleanup.sweep()
    if as_json:
        typer.echo(json.dumps({"purged": purged}))
    elif purged is None:
        typer.echo("Another process is at it.")
    else:
        typer.echo(f"{purged} sessions deleted.")


if __name__ == "__main__":
    cli(prog_name="python -m app.cli")
