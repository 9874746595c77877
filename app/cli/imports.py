import csv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

from app.cli.running import AsJson, open_container, say, show
from app.database_urls import parse_postgres_url
from app.services.accounts.foreign_table import ForeignDatabaseFailed, ForeignTable, open_foreign_table
from app.services.accounts.import_rows import MISSING, UnusableColumns, check_columns
from app.services.accounts.imports import ImportRefused, Report, Row

KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Import what is usable, and skip the rest.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be imported, and import nothing.")]

_CSV_COMPLAINTS: Final = {
    "unexpected end of data": "a quote is not closed",
    "',' expected after '\"'": "a quote ends before its field does; one that is part of a field is doubled",
}


def import_users(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    *,
    keep_going: KeepGoing = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import accounts from a CSV file, whose first line names its columns.

    Columns are email,hashed_password and, where wanted, role,id,created_at,is_active,email_verified.
    Hashes are bcrypt ($2b$...) or our own format; users keep their passwords.
    Without --keep-going, all rows are imported or none. The exit status is 1 if a row was not imported.
    """
    with open_container() as container, _reading(file, progress=not as_json) as text:
        records = _records(file, text)
        try:
            columns = [name.strip() for name in next(records, (1, []))[1]]
            rows = ((line, dict(zip_longest(columns, record, fillvalue=MISSING))) for line, record in records)
            report = run_import(
                lambda: container.imports.run(columns, rows, keep_going=keep_going, dry_run=dry_run)
            )
        except UnusableColumns as error:
            raise SystemExit(f"{file}, first line, separated by commas: {error}.") from None
        except UnicodeDecodeError:
            line = _first_line_not_in_utf8(file)
            raise SystemExit(f"{file}, line {line}: is not in UTF-8; nothing was imported.") from None
    show_report(report, dry_run=dry_run, as_json=as_json)


def migrate_from(
    *,
    url: Annotated[str, typer.Option(envvar="MIGRATE_FROM_URL", help="postgresql://user:password@host/name")],
    table: Annotated[str, typer.Option(help="A table or view, such as users or auth.users.")] = "users",
    columns: Annotated[str, typer.Option("--map", help="Our columns, and theirs: email=mail,id=id")],
    keep_going: KeepGoing = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Copy accounts from a table of another PostgreSQL database, by the rules of `users import`.

    A password in MIGRATE_FROM_URL is not in the process list, as one in --url is.
    """
    mapping = _mapping(columns)
    with open_container() as container:
        try:
            with open_foreign_table(_parsed(url), table, mapping) as source:
                rows = _with_progress(source, progress=not as_json)
                report = run_import(
                    lambda: container.imports.run(mapping, rows, keep_going=keep_going, dry_run=dry_run)
                )
        except ForeignDatabaseFailed as error:
            raise SystemExit(f"The other database: {error}; nothing was imported.") from None
    show_report(report, unit="row", dry_run=dry_run, as_json=as_json)


def run_import(work: Callable[[], Report]) -> Report:
    try:
        return work()
    except ImportRefused as refused:
        return refused.report


def show_report(report: Report, *, unit: str = "line", dry_run: bool, as_json: bool) -> None:
    """Raises typer.Exit, with status 1 if a row was skipped."""
    skipped = [each._asdict() for each in report.skipped]
    if not as_json:
        for each in report.skipped:
            say(f"{unit} {each.line}: {each.email}: {each.reason}", err=True)
    verb = "would be imported" if dry_run else "imported"
    text = f"{_count(report.imported, 'user')} {verb}, {_count(len(skipped), 'row')} skipped."
    show({"imported": report.imported, "skipped": skipped}, text, as_json=as_json)
    raise typer.Exit(bool(skipped))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _records(file: Path, text: TextIO) -> Iterator[tuple[int, list[str]]]:
    """With their lines, each read by itself, so that a quote that is not closed swallows no other.

    Raises SystemExit.
    """
    for number, line in enumerate(text, start=1):
        try:
            record = next(csv.reader([line], strict=True, skipinitialspace=True), [])
        except csv.Error as error:
            complaint = _CSV_COMPLAINTS.get(str(error), error)
            raise SystemExit(f"{file}, line {number}: {complaint}; nothing was imported.") from None
        if record:
            yield number, record


def _first_line_not_in_utf8(file: Path) -> int:
    """The error of a reader, which decodes blocks, does not say which one it is."""
    decoded = 0
    with file.open("rb") as lines, suppress(UnicodeDecodeError):
        for line in lines:
            line.decode()
            decoded += 1
    return decoded + 1


def _reading(file: Path, *, progress: bool) -> AbstractContextManager[TextIO]:
    from rich import console, progress as bar  # noqa: I001, PLC0415 — only this command needs it

    return bar.open(
        file,
        "r",
        encoding="utf-8-sig",
        newline="",
        description=file.name,
        console=console.Console(stderr=True),
        disable=not progress,
    )


def _mapping(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    mapping = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    if not all(mapping.values()):
        raise typer.BadParameter("looks like email=mail,hashed_password=password", param_hint="--map")
    if len(mapping) < len(pairs):
        raise typer.BadParameter("a column of ours is there twice", param_hint="--map")
    try:
        check_columns(mapping)
    except UnusableColumns as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    return mapping


def _parsed(url: str) -> str:
    try:
        return parse_postgres_url(url).render_as_string(hide_password=False)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None


def _with_progress(source: ForeignTable, *, progress: bool) -> Iterator[Row]:
    from rich import console, progress as bar  # noqa: I001, PLC0415 — only this command needs it

    stderr = console.Console(stderr=True)
    return iter(
        bar.track(source.rows(), source.table.name, source.count(), console=stderr, disable=not progress)
    )
