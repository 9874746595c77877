"""Where mails go is a URL; what is not usable, or too weak for production, ends the start with one line."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.container import Container
from app.mail_settings import SmtpServer, address_of
from tests.support import make_settings

URL = "postgresql://u@h/d"
SENDER = "Kanban <no-reply@example.com>"


def server(url: str, **values: Any) -> SmtpServer:
    found = make_settings(database_url=URL, smtp_url=url, **values).smtp_url
    assert found is not None
    return found


def in_production(url: str) -> SmtpServer:
    return server(url, environment="production", mail_from=SENDER, public_url="https://auth.example.com")


@pytest.mark.parametrize(
    ("url", "development", "production"),
    [
        ("smtp://host", (587, "off"), (587, "starttls")),
        ("smtp://host:2525", (2525, "off"), (2525, "starttls")),
        ("smtp://host?starttls=off", (587, "off"), (587, "off")),
        ("smtp://host?starttls=required", (587, "starttls"), (587, "starttls")),
        ("smtps://host", (465, "implicit"), (465, "implicit")),
    ],
)
def test_production_wants_tls_unless_the_url_says_otherwise(
    url: str, development: tuple[int, str], production: tuple[int, str]
) -> None:
    assert (server(url).port, server(url).tls) == development
    assert (in_production(url).port, in_production(url).tls) == production


def test_user_and_password_are_percent_decoded_and_never_printed() -> None:
    settings = make_settings(database_url=URL, smtp_url="smtp://some%40one:p%3Ass%2F%25%20word@host")

    assert settings.smtp_url is not None
    assert (settings.smtp_url.user, settings.smtp_url.password) == ("some@one", "p:ss/% word")
    assert "ss/%" not in repr(settings)
    assert "%3Ass" not in repr(settings)


def test_a_certificate_authority_of_ones_own_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()

    assert server(f"smtps://host?ca={file}").ca_file == file


@pytest.mark.parametrize(
    "url",
    [
        "host:25",
        "http://host",
        "smtp://",
        "smtp://host:0",
        "smtp://host:many",
        "smtp://host/path",
        "smtp://host#x",
        "smtp://hidden-user@host",
        "smtp://host?starttls=maybe",
        "smtp://host?tls=off",
        "smtps://host?ca=/nowhere/ca.pem",
        "smtp://[::1",
    ],
)
def test_what_is_no_mail_server_is_refused_without_a_part_of_it(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        server(url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        (SENDER, "Kanban", "no-reply@example.com"),
        ('"Kanban, Inc." <no-reply@example.com>', "Kanban, Inc.", "no-reply@example.com"),
        ("Tafel für alle <a@example.com>", "Tafel für alle", "a@example.com"),
        ("no-reply@example.com", "", "no-reply@example.com"),
    ],
)
def test_a_sender_may_have_a_name(sender: str, name: str, address: str) -> None:
    parsed = address_of(make_settings(database_url=URL, mail_from=sender).mail_from or "")

    assert (parsed.display_name, parsed.addr_spec) == (name, address)


@pytest.mark.parametrize(
    "sender",
    [
        "nobody",
        "a@b@c",
        "<>",
        "Kanban <no-reply@example.com",
        "no-reply@exämple.com",
        "Kanban <no-reply@example.com>\r\nBcc: all@example.com",
    ],
)
def test_what_is_no_sender_is_refused(sender: str) -> None:
    with pytest.raises(ValidationError, match="looks like Kanban"):
        make_settings(database_url=URL, mail_from=sender)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"public_url": "https://auth.example.com"}, "needs MAIL_FROM"),
        ({"mail_from": SENDER}, "needs FRONTEND_URL or PUBLIC_URL"),
    ],
)
def test_production_knows_whom_mails_come_from_and_where_their_links_lead(
    values: dict[str, Any], complaint: str
) -> None:
    settings = {"environment": "production", "smtp_url": "smtps://host", "database_url": URL}

    with pytest.raises(ValidationError, match=complaint):
        make_settings(**settings, **values)


def test_links_of_development_lead_to_the_port_that_it_serves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_PORT", "9000")
    container = Container(make_settings(database_url=URL, mail=True))

    assert container.mail_links.reset("x") == "http://localhost:9000/account/reset?token=x"
    container.close()
