from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from app.cli.running import AsJson, open_container, show
from app.services.delivery.languages import LANGUAGES
from app.services.delivery.mail_templates import MAILS, RenderedMail

commands = typer.Typer(no_args_is_help=True)


def _one_of(known: Iterable[str]) -> str:
    return f"One of {', '.join(known)}"


@commands.callback()
def _mail() -> None:
    """Typer would leave out the name of an only command."""


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
