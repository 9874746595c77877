"""What is in the outbox reaches a mail server: once, over a connection that is what was asked for, and
again and again where it is not taken."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app.container import Container
from app.services.delivery import mail_sender, smtp
from app.services.delivery.mail_queue import FIRST_PAUSE, GIVEN_UP_AFTER, LONGEST_PAUSE, MailQueue
from app.services.operations.cleanup import MAILS_KEPT
from tests.support import Api, MakeService, MovableClock, at_once, eventually, make_settings
from tests.support.mails import TOKEN, outbox, post, states
from tests.support.smtp import SmtpServer, certificate, smtp_server

SENDER = "Kanban <no-reply@example.com>"
LOGIN = "some%40one:p%3Ass%2F%25%20word@"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders look for work as often as a test can wish."""
    monkeypatch.setattr(mail_sender, "POLL_SECONDS", 0.05)


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with smtp_server() as server:
        yield server


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def start(
    start_service: MakeService, fresh_database_url: str, server: SmtpServer, clock: MovableClock
) -> MakeService:
    """Services with an outbox of this test alone."""

    def start(url: str = server.url, **settings: Any) -> Api:
        given = {"database_url": fresh_database_url, "mail_from": SENDER, "clock": clock}
        return start_service(smtp_url=url, **(given | settings))

    return start


def until(database: Engine, expected: Callable[[Any], bool]) -> Any:
    """The only row of the outbox, once it is so."""

    def row() -> Any:
        (found,) = outbox(database)
        return found if expected(found) else None

    return eventually(row, lambda: outbox(database))


def has_error(row: Any) -> bool:
    return row.last_error is not None


def test_a_mail_arrives_in_text_and_html_with_a_sender_and_an_id(
    start: MakeService, server: SmtpServer, fresh_database: Engine
) -> None:
    (to,) = post(start().operator)

    mail = server.first_to(to)

    row = until(fresh_database, lambda row: row.state == "sent")
    assert (mail["From"], mail["To"], mail["Message-ID"]) == (SENDER, to, f"<{row.id}@example.com>")
    assert (mail["Auto-Submitted"], mail["Date"].datetime) == ("auto-generated", row.created_at)
    assert {part.get_content_type() for part in mail.iter_parts()} == {"text/plain", "text/html"}
    assert all(TOKEN in part.get_content() for part in mail.iter_parts() if isinstance(part, EmailMessage))
    assert server.envelopes[0].mail_from == "no-reply@example.com"


@pytest.mark.parametrize("to", ["reader@example.com", "d\u00f6rte@example.com"])
def test_names_subjects_and_texts_of_any_script_arrive_as_they_are(
    start: MakeService, server: SmtpServer, fresh_database: Engine, tmp_path: Path, to: str
) -> None:
    folder = tmp_path / "de"
    folder.mkdir()
    subject, line = (
        "Größe\u00a0ändern " * 9 + "\N{GRINNING FACE}",
        "= Ä. From a line that is long " * 99,
    )
    (folder / "password_reset.txt").write_text(
        f"Subject: {subject}\n\n.\n{line}\n\nHier\n{{{{ link }}}}\n", "utf-8"
    )
    service = start(mail_templates=tmp_path, mail_language="de", mail_from="Tafel für alle <a@example.com>")
    post(service.operator, to)

    mail = server.first_to(to)

    row = until(fresh_database, lambda row: row.state == "sent")
    assert (mail["From"], mail["To"]) == ("Tafel für alle <a@example.com>", to)
    assert str(mail["Subject"]) == row.subject == subject
    text, html = (part.get_content() for part in mail.iter_parts() if isinstance(part, EmailMessage))
    assert text.replace("\r\n", "\n").startswith(f".\n{line.strip()}\n\nHier\n")
    assert "Größe" in html
    assert not mail.defects
    content = server.envelopes[0].content
    assert isinstance(content, bytes)
    assert max(map(len, content.split(b"\r\n"))) <= 100
    assert content.isascii() == to.isascii()
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_what_a_sent_mail_said_is_forgotten_at_once_and_the_mail_after_a_week(
    start: MakeService, fresh_database: Engine, clock: MovableClock
) -> None:
    operator = start().operator
    post(operator)
    row = until(fresh_database, lambda row: row.state == "sent")

    assert (row.text_body, row.html_body) == (None, None)
    assert TOKEN not in repr(row)
    clock.now = row.finished_at + MAILS_KEPT - timedelta(seconds=1)
    operator.cleanup.prune()
    assert len(outbox(fresh_database)) == 1
    clock.move(seconds=1)
    operator.cleanup.prune()
    assert outbox(fresh_database) == []


def test_a_mail_leaves_only_if_what_it_tells_of_is_committed(
    start: MakeService, server: SmtpServer, fresh_database: Engine
) -> None:
    operator = start().operator
    with pytest.raises(ValueError, match="no number"):
        post(operator, "left@example.com", after=lambda: int("no number"))
    post(operator, "right@example.com")

    assert server.first_to("right@example.com")
    assert [row.recipient for row in outbox(fresh_database)] == ["right@example.com"]


def test_workers_share_the_mails_and_send_none_twice(
    start: MakeService, server: SmtpServer, fresh_database: Engine
) -> None:
    services = [start(), start()]
    expected: list[str] = []

    def sent_by_each() -> list[float]:
        return [service.metric("app_mails_total", outcome="sent") for service in services]

    def are_shared() -> bool:
        readers = (f"reader{number}@example.com" for number in range(len(expected), len(expected) + 200))
        expected.extend(post(services[0].operator, *readers))
        eventually(lambda: sum(sent_by_each()) >= len(expected))
        return min(sent_by_each()) > 0

    eventually(are_shared)
    assert sum(sent_by_each()) == len(expected)
    assert set(states(fresh_database)) == {"sent"}
    assert sorted(to for envelope in server.envelopes for to in envelope.rcpt_tos) == sorted(expected)


def test_of_many_who_claim_mails_at_once_each_gets_others(fresh_database_url: str) -> None:
    container = Container(make_settings(database_url=fresh_database_url, mail=True))
    post(container, *(f"reader{number}@example.com" for number in range(400)))
    queue = MailQueue(container.resources.requests, container.clock)

    claimed = [message.draft.id for claims in at_once(8, lambda _: queue.claim(50)) for message in claims]

    assert (len(claimed), len(set(claimed))) == (400, 400)
    container.close()


def test_a_mail_is_tried_after_a_minute_then_ever_later_and_given_up_after_a_day(
    start: MakeService, server: SmtpServer, fresh_database: Engine, clock: MovableClock
) -> None:
    server.answer_recipient = lambda _: "450 try again later"
    service = start()
    post(service.operator)
    pauses = []

    row = until(fresh_database, has_error)
    while row.state == "queued":
        pauses.append(row.next_attempt_at - clock.now)
        clock.now = row.next_attempt_at
        attempts = row.attempts
        row = until(fresh_database, lambda row, seen=attempts: row.attempts > seen and has_error(row))  # type: ignore[misc]

    *regular, _ = pauses
    for number, pause in enumerate(regular):
        doubled = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert doubled <= pause <= min(doubled * 1.5, LONGEST_PAUSE)
    assert LONGEST_PAUSE in regular
    assert (row.state, row.finished_at) == ("failed", row.created_at + GIVEN_UP_AFTER)
    assert "450" in row.last_error
    eventually(lambda: service.metric("app_mails_total", outcome="failed") == 1)
    assert service.metric("app_mails_total", outcome="postponed") == len(pauses)


@pytest.mark.parametrize("answer", ["550 no such user", "553 not allowed"])
def test_a_recipient_who_is_refused_for_good_is_not_tried_again(
    start: MakeService, server: SmtpServer, fresh_database: Engine, answer: str
) -> None:
    server.answer_recipient = lambda _: answer
    post(start().operator)

    row = until(fresh_database, lambda row: row.state == "failed")

    assert (row.attempts, row.last_error) == (1, f"recipient refused with {answer[:3]}: {answer[4:]}")


def test_a_refused_mail_holds_up_no_other(
    start: MakeService, server: SmtpServer, fresh_database: Engine
) -> None:
    server.answer_recipient = lambda to: "450 full" if to.startswith("full") else "250 OK"
    post(start().operator, *(f"{name}{n}@example.com" for n in range(10) for name in ("full", "empty")))

    eventually(lambda: states(fresh_database).count("sent") == 10)

    assert len(server.envelopes) == 10


def test_starttls_is_demanded_and_the_certificate_is_checked_before_a_login(
    start: MakeService, tmp_path: Path
) -> None:
    context, authority = certificate(tmp_path)
    with smtp_server(tls_context=context, auth_required=True) as server:
        (to,) = post(start(server.url_with(LOGIN, f"starttls=required&ca={authority}")).operator)

        assert server.first_to(to)
    assert server.over_tls
    assert [(each.login, each.password) for each in server.logins] == [(b"some@one", b"p:ss/% word")]


def test_smtps_is_tls_from_the_first_byte(start: MakeService, tmp_path: Path) -> None:
    context, authority = certificate(tmp_path)
    with smtp_server(ssl_context=context) as server:
        (to,) = post(start(f"smtps://127.0.0.1:{server.port}?ca={authority}").operator)

        assert server.first_to(to)


@pytest.mark.parametrize(
    ("name", "trusted"),
    [("127.0.0.1", False), ("127.0.0.2", True)],
    ids=["unknown authority", "another's name"],
)
def test_nothing_is_said_to_a_server_that_does_not_prove_itself(
    start: MakeService, fresh_database: Engine, tmp_path: Path, name: str, *, trusted: bool
) -> None:
    context, authority = certificate(tmp_path, name)
    with smtp_server(tls_context=context) as server:
        ca = f"&ca={authority}" if trusted else ""
        post(start(server.url_with(LOGIN, f"starttls=required{ca}")).operator)

        row = until(fresh_database, has_error)

    assert (row.state, server.envelopes, server.logins) == ("queued", [], [])
    assert row.last_error.startswith("SSLCertVerificationError")


def test_nothing_is_said_to_a_server_without_starttls_where_it_is_required(
    start: MakeService, server: SmtpServer, fresh_database: Engine
) -> None:
    post(start(server.url_with(LOGIN, "starttls=required")).operator)

    row = until(fresh_database, has_error)

    assert (row.state, server.envelopes, server.logins) == ("queued", [], [])
    assert "STARTTLS" in row.last_error


def test_a_login_that_is_refused_fails_no_mail_for_good(
    start: MakeService, fresh_database: Engine, tmp_path: Path
) -> None:
    context, authority = certificate(tmp_path)
    with smtp_server(tls_context=context, auth_required=True) as server:
        post(start(server.url_with("some:wrong@", f"starttls=required&ca={authority}")).operator)

        row = until(fresh_database, has_error)

    assert (row.state, server.envelopes) == ("queued", [])
    assert row.last_error.startswith("login refused with 535")


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"", "SMTP"),
        (b"421 too busy\r\n", "refused with 421"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "SMTP"),
        (b"\xff\x00" * 5000, "SMTP"),
        (None, "TimeoutError"),
    ],
    ids=["hangs up", "busy", "speaks HTTP", "speaks no language", "is silent"],
)
def test_a_server_that_is_none_costs_no_mail(
    start: MakeService,
    fresh_database: Engine,
    monkeypatch: pytest.MonkeyPatch,
    greeting: bytes | None,
    reason: str,
) -> None:
    monkeypatch.setattr(smtp, "SEND_SECONDS", 1)

    def greet(connection: socket.socket) -> None:
        with connection:
            if greeting is None:
                connection.recv(1)
            else:
                connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        threads.submit(lambda: greet(listener.accept()[0]))
        post(start(f"smtp://127.0.0.1:{listener.getsockname()[1]}").operator)
        row = until(fresh_database, has_error)

    assert (row.state, row.attempts) == ("queued", 1)
    assert reason in row.last_error
