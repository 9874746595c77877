"""Operators see the outbox, try again or drop what is in it, and send a mail to see whether one arrives."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from app.services.delivery import mail_sender
from tests.support import MakeService, MovableClock, eventually
from tests.support.commands import Ended, run_command
from tests.support.mails import TOKEN, outbox, post, states
from tests.support.smtp import TAKEN, SmtpServer, smtp_server

SENDER = "Kanban <no-reply@example.com>"
ANSWERS = {"sent@example.com": TAKEN, "failed@example.com": "550 unknown", "late@example.com": "450 busy"}


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with smtp_server() as server:
        server.answer_recipient = ANSWERS.__getitem__
        yield server


@pytest.fixture
def run(fresh_database_url: str) -> Callable[..., Ended]:
    return partial(run_command, fresh_database_url)


@pytest.fixture
def ids(
    server: SmtpServer,
    start_service: MakeService,
    fresh_database_url: str,
    fresh_database: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Of a mail that was sent, of one that has failed and of one that is late."""
    monkeypatch.setattr(mail_sender, "POLL_SECONDS", 0.05)
    clock = MovableClock()
    service = start_service(
        database_url=fresh_database_url, smtp_url=server.url, mail_from=SENDER, clock=clock
    )
    for each in ANSWERS:
        post(service.operator, each)
        clock.move(seconds=1)
    eventually(lambda: sorted(states(fresh_database)) == ["failed", "queued", "sent"])
    eventually(lambda: any("450" in (row.last_error or "") for row in outbox(fresh_database)))
    return {row.recipient.partition("@")[0]: str(row.id) for row in outbox(fresh_database)}


def test_the_list_says_what_became_of_each_mail_and_never_what_it_says(
    run: Callable[..., Ended], ids: dict[str, str]
) -> None:
    listed = run("mail", "list").stdout
    as_json: list[dict[str, Any]] = json.loads(run("mail", "list", "--json").stdout)

    assert [line.split()[:2] for line in listed.splitlines()] == [
        [ids["late"], "queued"], [ids["failed"], "failed"], [ids["sent"], "sent"]
    ]  # fmt: skip
    assert "recipient refused with 550: unknown" in listed
    assert [each["id"] for each in as_json] == [ids["late"], ids["failed"], ids["sent"]]
    assert not {"text_body", "html_body"} & as_json[0].keys()
    assert TOKEN not in listed + str(as_json)
    assert [each["id"] for each in json.loads(run("mail", "list", "--limit", "1", "--json").stdout)] == [
        ids["late"]
    ]
    assert [each["id"] for each in json.loads(run("mail", "list", "--state", "failed", "--json").stdout)] == [
        ids["failed"]
    ]


def test_a_mail_that_has_failed_or_waits_is_tried_again_at_once(
    run: Callable[..., Ended], ids: dict[str, str], server: SmtpServer, fresh_database: Engine
) -> None:
    server.answer_recipient = lambda _: TAKEN

    one = run("mail", "retry", ids["failed"])
    rest = run("mail", "retry", "--all", "--json")

    assert (one.returncode, one.stdout) == (0, "1 to be tried at once.\n")
    assert set(json.loads(rest.stdout)) <= {ids["failed"], ids["late"]}
    with fresh_database.connect() as connection:  # the service's clock of this test stands still
        connection.execute(text("UPDATE outbox_messages SET next_attempt_at = '2020-01-01'"))
    eventually(lambda: states(fresh_database) == ["sent"] * 3)
    assert sorted(to for each in server.envelopes for to in each.rcpt_tos) == sorted(ANSWERS)


def test_a_mail_that_is_dropped_is_sent_to_nobody_and_forgotten(
    run: Callable[..., Ended], ids: dict[str, str], fresh_database: Engine
) -> None:
    dropped = run("mail", "drop", ids["failed"], ids["late"])

    assert (dropped.returncode, dropped.stdout) == (0, "2 dropped.\n")
    assert sorted(states(fresh_database)) == ["dropped", "dropped", "sent"]
    assert {row.text_body for row in outbox(fresh_database)} == {None}
    assert run("mail", "retry", ids["failed"]).returncode == 1


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_what_is_sent_or_unknown_is_left_alone_and_the_status_tells(
    run: Callable[..., Ended], ids: dict[str, str], command: str
) -> None:
    done = run("mail", command, ids["sent"], str(uuid4()))

    assert (done.returncode, done.stdout[:2]) == (1, "0 ")


@pytest.mark.parametrize("arguments", [(), ("--all", str(uuid4()))])
def test_retry_wants_ids_or_all_of_them(run: Callable[..., Ended], arguments: tuple[str, ...]) -> None:
    refused = run("mail", "retry", *arguments)

    assert refused.returncode == 2
    assert "--all" in refused.stderr


MAIL = {"MAIL_FROM": SENDER, "PUBLIC_URL": "https://auth.example.com"}


def test_the_doctor_sends_a_mail_to_see_whether_it_arrives(
    run: Callable[..., Ended], server: SmtpServer
) -> None:
    url = server.url_with("", "starttls=off")

    done = run("doctor", "--send-test", "Sent@Example.com", SMTP_URL=url, **MAIL)
    refused = run("doctor", "--send-test", "failed@example.com", SMTP_URL=url, **MAIL)

    assert "taken for sent@example.com" in done.stdout
    assert server.first_to("sent@example.com")["Message-ID"].endswith("@example.com>")
    assert refused.returncode == 1
    assert "not sent: recipient refused with 550: unknown" in refused.stdout


def test_the_doctor_tells_of_mail_that_goes_nowhere_and_of_mails_that_were_given_up(
    run: Callable[..., Ended], ids: dict[str, str]
) -> None:
    done = run("doctor", "--send-test", "sent@example.com")

    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    said = {subject: (verdict, text) for verdict, subject, text in lines if subject in ("mail", "outbox")}
    assert said["mail"][0] == said["outbox"][0] == "warning"
    assert "SMTP_URL is unset" in said["mail"][1]
    assert said["outbox"][1].startswith("1 to be sent, 1 given up")
    assert "not sent, as SMTP_URL is unset" in done.stdout
    assert ids
