from collections.abc import Collection, Iterable
from itertools import product
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from app.cli.running import AsJson, one_line, open_container, show
from app.models.outbox import MailState
from app.services.delivery.languages import LANGUAGES
from app.services.delivery.mail_admin import MailInfo
from app.services.delivery.mail_templates import MAILS, RenderedMail

commands = typer.Typer(no_args_is_help=True)


def _one_of(known: Iterable[str]) -> str:
    return f"One of {', '.join(known)}"


@commands.command()
def preview(
    name: Annotated[str | None, typer.Argument(help=f"{_one_of(MAILS)}; all if left out.")] = None,
    *,
    language: Annotated[str | None, typer.Option(help=f"{_one_of(LANGUAGES)}; both if left out.")] = None,
    output: Annotated[Path, typer.Option(help="The folder.")] = Path("mail-preview"),
    as_json: AsJson = False,
) -> None:
    """Write mails with sample values to files, as text and as HTML, after a check of all templates."""
    names, languages = _choose(name, MAILS, "NAME"), _choose(language, LANGUAGES, "--language")
    with open_container() as container:
        templates = container.mail_templates
        templates.check()
        written = [
            str(file)
            for each, of in product(names, languages)
            for file in _write(templates.render(each, of, **MAILS[each]), output / of / each)
        ]
    show(written, "\n".join(written), as_json=as_json)


def _choose(given: str | None, known: Iterable[str], parameter: str) -> list[str]:
    if given not in (None, *known):
        raise typer.BadParameter(_one_of(known), param_hint=parameter)
    return [given] if given else [*known]


def _write(mail: RenderedMail, path: Path) -> tuple[Path, Path]:
    text, html = path.with_suffix(".txt"), path.with_suffix(".html")
    path.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(f"Subject: {mail.subject}\n\n{mail.text}", encoding="utf-8")
    html.write_text(mail.html, encoding="utf-8")
    return text, html


def _line(mail: MailInfo) -> str:
    at = mail.finished_at or mail.next_attempt_at
    error = f"  {one_line(mail.last_error)}" if mail.last_error else ""
    return (
        f"{mail.id}  {mail.state:7}  {mail.kind:20}  {mail.recipient}  attempts {mail.attempts}"
        f"  {'since' if mail.finished_at else 'next'} {at:%Y-%m-%d %H:%M}{error}"
    )


@commands.command("list")
def list_mails(
    *,
    state: Annotated[MailState | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="No more than these.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List mails of the last week and those to be sent, newest first; never what they say."""
    with open_container() as container:
        mails = container.mail_admin.list(state, limit)
    show([mail._asdict() for mail in mails], "\n".join(map(_line, mails)) or "None.", as_json=as_json)


@commands.command()
def retry(
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID...")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try mails that have failed, or wait for their next attempt, at once and for a day again."""
    if every == bool(ids):
        raise typer.BadParameter("give ids, or --all", param_hint="ID...")
    with open_container() as container:
        done = container.mail_admin.retry(None if every else ids or ())
    _show_done(done, "to be tried at once", as_json=as_json, expected=len(set(ids or ())))


@commands.command()
def drop(ids: Annotated[list[UUID], typer.Argument(metavar="ID...")], *, as_json: AsJson = False) -> None:
    """Send these mails to nobody, and forget what they say."""
    with open_container() as container:
        done = container.mail_admin.drop(ids)
    _show_done(done, "dropped", as_json=as_json, expected=len(set(ids)))


def _show_done(done: Collection[UUID], what: str, *, as_json: bool, expected: int) -> None:
    """The exit status is 1 if that was not done with all that were named."""
    show([str(each) for each in done], f"{len(done)} {what}.", as_json=as_json)
    raise typer.Exit(len(done) < expected)
