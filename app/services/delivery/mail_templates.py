"""Writes mails from the files in `app/templates/mail`.

A template is the text of a mail: its subject, and paragraphs of one line each. The HTML has the same
paragraphs, and a button where a paragraph ends with the link.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import product
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from app.errors import UnusableMailTemplate
from app.services.delivery.languages import LANGUAGES
from app.services.delivery.user_agents import browser_and_system
from app.services.operations.audit import Client

if TYPE_CHECKING:
    from jinja2 import Environment

_FILES: Final = Path(__file__).parents[2] / "templates" / "mail"
_SUBJECT: Final = "Subject: "

_AT: Final = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
_LINK: Final = "https://board.example.com/account/{}?token=hVp2aYw0mZk3nX8sQ1tLr5cJ7dGbEfUiOoPxNvMqKzA"
_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_WITHOUT_LINK: Final = {"at": _AT, "client": Client("203.0.113.7", _BROWSER)}


def _with_link(page: str, lifetime: timedelta) -> dict[str, Any]:
    return {**_WITHOUT_LINK, "link": _LINK.format(page), "expires_at": _AT + lifetime}


MAILS: Final[Mapping[str, Mapping[str, Any]]] = {
    "password_reset": _with_link("reset", timedelta(minutes=30)),
    "account_disabled": _WITHOUT_LINK,
    "invitation": _with_link("reset", timedelta(hours=72)),
    "email_verification": _with_link("verify", timedelta(hours=24)),
    "email_change": _with_link("email", timedelta(hours=24)),
    "email_change_notice": _with_link("restore", timedelta(hours=72)),
    "password_changed": _WITHOUT_LINK,
    "email_changed": _WITHOUT_LINK,
    "new_device_login": _WITHOUT_LINK,
    "account_deleted": _WITHOUT_LINK,
    "refresh_token_reused": _WITHOUT_LINK,
    "recovery_used": _WITHOUT_LINK,
}
"""Each mail, with an example of what its template is given."""


class RenderedMail(NamedTuple):
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class MailTemplates:
    """`folder` has files that are taken instead of ours, such as `de/password_reset.txt`."""

    folder: Path | None = None

    def render(self, name: str, language: str, **context: Any) -> RenderedMail:
        """`name` is one of `MAILS`, which shows the context, and `language` one of `LANGUAGES`.

        Raises what Jinja raises, and ValueError without a subject; `check` does so first.
        """
        templates = _environment(self.folder)
        words = templates.get_template(f"{language}/words.txt").module
        written = templates.get_template(f"{language}/{name}.txt").render(words=words, **context)
        head, *paragraphs = _paragraphs_of(written)
        if len(head) != 1 or not head[0].startswith(_SUBJECT):
            raise ValueError(f"the first line is no “{_SUBJECT}”, or no empty line follows it")
        subject = head[0].removeprefix(_SUBJECT)
        html = templates.get_template("layout.html").render(
            language=language, subject=subject, paragraphs=paragraphs, link=context.get("link")
        )
        return RenderedMail(subject, "\n\n".join(map("\n".join, paragraphs)) + "\n", html)

    def check(self) -> None:
        """Writes each mail in each language. Raises UnusableMailTemplate."""
        from jinja2 import TemplateError  # noqa: PLC0415 — see _environment

        for language, name in product(LANGUAGES, MAILS):
            try:
                mail = self.render(name, language, **MAILS[name])
            except (TemplateError, ArithmeticError, TypeError, ValueError) as error:
                raise UnusableMailTemplate(f"{language}/{name}.txt", _explain(error)) from error
            link = MAILS[name].get("link")
            if link and (link not in mail.text or f'href="{link}"' not in mail.html):
                raise UnusableMailTemplate(f"{language}/{name}.txt", "no paragraph ends with the link")
        ours = _environment(None).list_templates()
        for found in _environment(self.folder).list_templates():
            if found not in ours and not any(part.startswith(".") for part in Path(found).parts):
                raise UnusableMailTemplate(found, "no template has this name")


def check_overrides(folder: Path | None) -> None:
    """For the start of the service. Raises SystemExit with a line for the first broken file in `folder`."""
    if folder is None:
        return
    try:
        MailTemplates(folder).check()
    except UnusableMailTemplate as error:
        raise SystemExit(f"The settings are not usable:\n{error}") from None


@lru_cache
def _environment(folder: Path | None) -> "Environment":
    """Compiles each file once."""
    from jinja2 import (  # noqa: PLC0415 — 2 MiB that a worker takes when it writes its first mail
        ChoiceLoader,
        Environment,
        FileSystemLoader,
        StrictUndefined,
        select_autoescape,
    )

    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(each) for each in (folder, _FILES) if each]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        finalize=_in_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"UTC": UTC, "browser_and_system": browser_and_system}
    return environment


def _in_one_line(value: object) -> str:
    """A value begins no paragraph of its own, and no header."""
    return " ".join(str(value).split())


def _paragraphs_of(text: str) -> list[list[str]]:
    return [[line.strip() for line in block.splitlines()] for block in re.split(r"\n[ \t]*\n", text.strip())]


def _explain(error: Exception) -> str:
    """Jinja gives the frames of a template its lines."""
    if lineno := getattr(error, "lineno", None):  # of a syntax error
        return f"{error.args[0]} (line {lineno})"
    frames = extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename.endswith((".txt", ".html"))]
    return f"{error} (line {lines[-1]})" if lines else str(error)
