"""What mails say, in which language, and what an operator can change of it."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from html import unescape
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.application import create_app
from app.container import Container
from app.services.delivery.languages import LANGUAGES, language_of
from app.services.delivery.mail_templates import MAILS, MailTemplates
from app.services.delivery.user_agents import browser_and_system
from app.services.operations.audit import Client
from tests.support import NOWHERE, make_settings
from tests.support.commands import run_command

EVERY_MAIL = list(product(MAILS, LANGUAGES))
RESET = MAILS["password_reset"]
NEPAL = timezone(timedelta(hours=5, minutes=45))
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
EDGE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 "
    "Safari/537.36 Edg/138.0.0.0"
)


def override(folder: Path, file: str, content: str) -> MailTemplates:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(content, encoding="utf-8")
    return MailTemplates(folder)


def read_aloud(html: str) -> str:
    """The words of a page, without its head."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html.partition("<body")[2].partition(">")[2])).split())


@pytest.mark.parametrize(("name", "language"), EVERY_MAIL)
def test_the_html_of_a_mail_says_what_its_text_says(name: str, language: str) -> None:
    mail = MailTemplates().render(name, language, **MAILS[name])

    assert mail.subject
    assert read_aloud(mail.html) == " ".join(f"{mail.subject} {mail.text}".split())
    assert f'<html lang="{language}">' in mail.html
    assert "{" not in mail.subject + mail.text


@pytest.mark.parametrize(("name", "language"), EVERY_MAIL)
def test_a_mail_loads_nothing_and_leads_only_where_its_link_does(name: str, language: str) -> None:
    mail = MailTemplates().render(name, language, **MAILS[name])

    link = MAILS[name].get("link")
    assert re.findall(r"https?://[^\s\"<]*", mail.text) == ([link] if link else [])
    assert set(re.findall(r"https?://[^\s\"<]*", mail.html)) == ({link} if link else set())
    assert mail.html.count("href=") == (2 if link else 0)  # a button, and the link itself under it
    assert not re.search(r"(?i)<(img|link|script|iframe|form)|src=|url\(|@import", mail.html)


def test_both_languages_have_all_mails_and_no_line_of_the_other() -> None:
    lines = {
        language: {
            line
            for name in MAILS
            for line in MailTemplates().render(name, language, **MAILS[name]).text.splitlines()
        }
        for language in LANGUAGES
    }

    shared = lines["en"] & lines["de"]
    assert {line for line in shared if line and not line.startswith("https:")} == set()


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "for 30 minutes, until 31 January 2030, 12:30 UTC"),
        ("de", "30 Minuten lang, bis 31. Januar 2030, 12:30 Uhr UTC"),
    ],
)
def test_times_are_said_in_words_and_in_utc(language: str, said: str) -> None:
    elsewhere = {
        name: value.astimezone(NEPAL) for name, value in RESET.items() if isinstance(value, datetime)
    }

    assert said in MailTemplates().render("password_reset", language, **{**RESET, **elsewhere}).text


@pytest.mark.parametrize(
    ("client", "en", "de"),
    [
        (
            Client("203.0.113.7", EDGE),
            "With: Edge on Windows\nFrom: 203.0.113.7\n",
            "Womit: Edge auf Windows\n",
        ),
        (Client(None, IPHONE), "With: Safari on iPhone\n\n", "Womit: Safari auf iPhone\n\n"),
        (Client(None, None), "With: A program that we do not know\n", "Womit: Ein Programm, das wir nicht "),
    ],
)
def test_a_notice_names_the_device_and_the_address_that_are_known(client: Client, en: str, de: str) -> None:
    values = {"at": datetime(2030, 1, 31, 12, 0, tzinfo=UTC), "client": client}

    assert en in MailTemplates().render("new_device_login", "en", **values).text
    assert de in MailTemplates().render("new_device_login", "de", **values).text


@pytest.mark.parametrize("name", MAILS)
def test_nothing_that_a_client_writes_in_its_user_agent_gets_into_a_mail(name: str) -> None:
    spam = "Cheap watches at https://spam.example <b>Firefox/1.0</b> on Linux\n\nBcc: all@example.com"
    values = {**MAILS[name], "client": Client(None, spam)}

    mail = MailTemplates().render(name, "en", **values)

    assert not re.search("watches|spam|<b>|Bcc", mail.text + mail.html)


@pytest.mark.parametrize(
    ("user_agent", "known"),
    [
        (EDGE, ("Edge", "Windows")),
        (IPHONE, ("Safari", "iPhone")),
        ("Mozilla/5.0 (X11; CrOS x86_64) Chrome/138.0 Safari/537.36", ("Chrome", "ChromeOS")),
        (
            "Mozilla/5.0 (Linux; Android 15) SamsungBrowser/28 Chrome/130 Safari/1",
            ("Samsung Internet", "Android"),
        ),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Firefox/140.0", ("Firefox", "macOS")),
        ("curl/8.5.0", (None, None)),
        (None, (None, None)),
    ],
)
def test_devices_have_names_of_ours(user_agent: str | None, known: tuple[str | None, str | None]) -> None:
    assert browser_and_system(user_agent) == known


def test_values_are_escaped_in_html_and_only_there(tmp_path: Path) -> None:
    content = "Subject: {{ link }}\n\nIf 1 < 2 & {{ link }}:\n\nGo\n{{ link }}\n"
    templates = override(tmp_path, "en/password_reset.txt", content)

    mail = templates.render("password_reset", "en", **{**RESET, "link": 'https://x/?a=1&b="><script>'})

    assert mail.subject == 'https://x/?a=1&b="><script>'
    assert 'If 1 < 2 & https://x/?a=1&b="><script>:' in mail.text
    assert "<script>" not in mail.html
    assert 'href="https://x/?a=1&amp;b=&#34;&gt;&lt;script&gt;"' in mail.html
    assert "If 1 &lt; 2 &amp; https" in mail.html


def test_no_value_begins_a_header_or_a_paragraph_of_its_own(tmp_path: Path) -> None:
    templates = override(tmp_path, "en/account_deleted.txt", "Subject: {{ client.user_agent }}\n\nOne\n")

    mail = templates.render("account_deleted", "en", client=Client(None, "x\r\nBcc: all@example.com\n\nTwo"))

    assert mail == ("x Bcc: all@example.com Two", "One\n", mail.html)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("DE-at, en;q=0.8", "de"),
        ("en;q=0.3, de;q=0.7", "de"),
        ("de;q=0.7, en", "en"),
        ("fr, de;q=0.5", "de"),
        ("fr-CH, *;q=0.5", "en"),
        ("*", "en"),
        ("de;q=0, fr", "en"),
        ("de;q=0.0, *", "en"),
        ("en, de", "en"),
        ("de, en", "de"),
        ("de ; Q=1.000 , en ; q=0.001", "de"),
        ("de;q=2, en", "en"),
        ("de;q=x", "en"),
        ("../../etc/passwd", "en"),
        ("de" * 9000, "en"),
    ],
)
def test_the_language_is_the_one_that_a_browser_asks_for(header: str | None, language: str) -> None:
    assert language_of(header, "en") == language


def test_a_header_without_a_preference_leaves_the_default() -> None:
    assert language_of("fr", "de") == "de"
    assert language_of("*;q=0.9, en;q=0.8", "de") == "de"


def test_a_folder_of_the_operators_overrides_single_files(tmp_path: Path) -> None:
    content = "Subject: Moin\n\nMoin.\n\nKlick\n{{ link }}\n\nBis {{ words.moment(expires_at) }}.\n"
    templates = override(tmp_path, "de/password_reset.txt", content)

    mail = templates.render("password_reset", "de", **RESET)

    templates.check()
    assert mail.subject == "Moin"
    assert mail.text.endswith("Bis 31. Januar 2030, 12:30 Uhr UTC.\n")
    assert templates.render("password_reset", "en", **RESET) == MailTemplates().render(
        "password_reset", "en", **RESET
    )


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("de/password_reset.txt", "Subject: x\n\n{{ lnk }}", "'lnk' is undefined (line 3)"),
        ("de/password_reset.txt", "Subject: x\n\n{% if %}", "Expected an expression"),
        ("de/password_reset.txt", "Subject: x\n\nThe link: {{ link }}", "no paragraph ends with the link"),
        ("de/password_reset.txt", "Hello\n\nGo\n{{ link }}", "Subject"),
        ("de/invitation.txt", "Subject: x\nHello\n\nGo\n{{ link }}", "Subject"),
        ("en/email_changed.txt", "Subject: x\n\n{{ 1 / 0 }}", "division by zero (line 3)"),
        ("en/password_rest.txt", "Subject: x\n\nx", "no template has this name"),
        ("layout.html", "<p>{% for lines in paragraphs %}{{ lines[7] }}{% endfor %}", "has no element 7"),
        ("layout.html", "<p>Hello</p>", "no paragraph ends with the link"),
    ],
)
def test_a_broken_override_is_told_at_the_start_and_by_the_preview(
    tmp_path: Path, file: str, content: str, complaint: str
) -> None:
    override(tmp_path, file, content)

    with pytest.raises(SystemExit) as caught:
        create_app(make_settings(database_url=NOWHERE, mail_templates=tmp_path))
    previewed = run_command(NOWHERE, "mail", "preview", MAIL_TEMPLATES=str(tmp_path))

    said = str(caught.value)
    assert said.startswith("The settings are not usable:\nMAIL_TEMPLATES: ")
    assert complaint in said
    assert said.count("\n") == 1
    assert file == "layout.html" or file in said
    assert previewed.returncode == 1
    assert complaint in previewed.stderr
    assert "Traceback" not in previewed.stderr


def test_files_that_a_mounted_volume_hides_are_left_alone(tmp_path: Path) -> None:
    """Such as those of a Kubernetes ConfigMap."""
    override(tmp_path, "..2030_01_31/reset.txt", "Subject: {{ nothing }}").check()


def test_the_preview_writes_all_mails_or_one(tmp_path: Path) -> None:
    every = run_command(NOWHERE, "mail", "preview", "--output", str(tmp_path / "all"))
    options = ["--language", "de", "--output", str(tmp_path / "one"), "--json"]
    one = run_command(NOWHERE, "mail", "preview", "invitation", *options)

    written = sorted(str(file) for file in (tmp_path / "all").rglob("*.*"))
    assert (every.returncode, sorted(every.stdout.splitlines())) == (0, written)
    assert len(written) == 2 * len(EVERY_MAIL)
    files = [tmp_path / "one" / "de" / f"invitation.{kind}" for kind in ("txt", "html")]
    assert json.loads(one.stdout) == [str(file) for file in files]
    mail = MailTemplates().render("invitation", "de", **MAILS["invitation"])
    text, html = (file.read_text(encoding="utf-8") for file in files)
    assert (text, html) == (f"Subject: {mail.subject}\n\n{mail.text}", mail.html)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["password_rest"], "One of password_reset"), (["--language", "fr"], "One of en, de")],
)
def test_the_preview_says_what_there_is(arguments: list[str], complaint: str) -> None:
    ended = run_command(NOWHERE, "mail", "preview", *arguments)

    assert ended.returncode == 2
    assert complaint in " ".join(ended.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("settings", "links"),
    [
        ({"public_url": "https://auth.example.com/"}, "https://auth.example.com/account/{}?token=T"),
        (
            {
                "public_url": "https://auth.example.com",
                "mail_verify_path": "/confirm",
            },  # a path of the frontend
            "https://auth.example.com/account/{}?token=T",
        ),
        (
            {"public_url": "https://auth.example.com", "frontend_url": "https://board.example.com/app"},
            "https://board.example.com/app/account/{}?token=T",
        ),
        ({}, "http://localhost:8000/account/{}?token=T"),
    ],
)
def test_links_lead_to_the_frontend_or_to_the_pages_of_the_service(
    settings: dict[str, Any], links: str
) -> None:
    to = Container(make_settings(database_url=NOWHERE, **settings)).mail_links

    found = [to.reset("T"), to.verify("T"), to.email("T"), to.restore("T")]
    assert found == [links.format(page) for page in ("reset", "verify", "email", "restore")]


def test_the_pages_of_a_frontend_have_paths_of_its_own() -> None:
    paths = {
        "mail_reset_path": "/#/password",
        "mail_verify_path": "/confirm",
        "mail_email_path": "/confirm-new",
        "mail_restore_path": "/back",
    }
    settings = make_settings(database_url=NOWHERE, frontend_url="https://board.example.com", **paths)

    to = Container(settings).mail_links

    found = [to.reset("T"), to.verify("T"), to.email("T"), to.restore("T")]
    assert found == [f"https://board.example.com{path}?token=T" for path in paths.values()]


@pytest.mark.parametrize(
    "values",
    [
        {"frontend_url": "board.example.com"},
        {"frontend_url": "javascript://board.example.com"},
        {"frontend_url": "https://board.example.com/?x=1"},
        {"frontend_url": "https://board.example.com/\nBcc: x"},
        {"public_url": "https://"},
        {"mail_reset_path": "account/reset"},
        {"mail_reset_path": "/account/reset?x=1"},
        {"mail_reset_path": '/"><script>'},
        {"mail_language": "fr"},
        {"mail_templates": "/nowhere/at/all"},
    ],
)
def test_settings_that_would_break_a_link_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        make_settings(database_url=NOWHERE, **values)
