"""No mail is lost, and each keeps its id, whoever dies at whatever moment."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.container import Container
from app.services.delivery import mail_sender
from app.services.delivery.mail_queue import LEASE
from tests.support import (
    PATIENCE_SECONDS,
    MakeService,
    MovableClock,
    OwnServer,
    Started,
    StartProcess,
    eventually,
    look_into,
    make_settings,
)
from tests.support.mails import TOKEN, outbox, post, states
from tests.support.smtp import TAKEN, SmtpServer, smtp_server

SENDER = "Kanban <no-reply@example.com>"
NAMES = [f"reader{number}@example.com" for number in range(12)]


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with smtp_server() as server:
        yield server


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders look for work as often as a test can wish."""
    monkeypatch.setattr(mail_sender, "POLL_SECONDS", 0.05)


@dataclass
class Office:
    """A mail server, and an outbox whose mails are for it."""

    server: SmtpServer
    database: Engine
    settings: dict[str, Any]

    def post(self, *names: str) -> None:
        container = Container(make_settings(**self.settings))
        post(container, *(names or NAMES))
        container.close()

    def is_empty(self) -> bool:
        return set(states(self.database)) == {"sent"}

    def each_arrived_as_itself(self) -> bool:
        """By recipient, the only Message-ID."""
        found: dict[str, set[str]] = {}
        for mail in self.server.messages():
            found.setdefault(mail["To"], set()).add(mail["Message-ID"])
        return found == {row.recipient: {f"<{row.id}@example.com>"} for row in outbox(self.database)}


@pytest.fixture
def office(server: SmtpServer, fresh_database_url: str, fresh_database: Engine) -> Office:
    settings = {"database_url": fresh_database_url, "smtp_url": server.url, "mail_from": SENDER}
    return Office(server, fresh_database, settings)


@pytest.fixture
def start(start_process: StartProcess, server: SmtpServer, fresh_database_url: str) -> Callable[..., Started]:
    """Services in processes of their own, whose outbox is this test's alone."""

    def start(**settings: str) -> Started:
        mail = {
            "SMTP_URL": f"{server.url}?starttls=off",
            "MAIL_FROM": SENDER,
            "PUBLIC_URL": "https://auth.example.com",
        }
        return start_process(fresh_database_url, **(mail | settings)).serves()

    return start


class Moment:
    """What happens once, at the mail of a number."""

    def __init__(self, number: int, happens: Callable[[], object]) -> None:
        self._left, self._happens = number, happens

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._happens()


@pytest.mark.slow
@pytest.mark.parametrize("answer", [TAKEN, "451 not now"], ids=["just taken", "not taken"])
def test_a_worker_that_is_killed_while_it_sends_loses_no_mail(
    office: Office, start: Callable[..., Started], start_service: MakeService, answer: str
) -> None:
    doomed = start()

    def kill() -> None:
        office.server.answer_data = answer
        doomed.process.kill()
        doomed.ends()

    office.server.on_data = Moment(3, kill)
    office.post()
    doomed.ends()
    office.server.answer_data = TAKEN

    clock = MovableClock()
    clock.now += 2 * LEASE
    start_service(clock=clock, **office.settings)
    eventually(office.is_empty)

    assert office.each_arrived_as_itself()


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_a_database_that_dies_while_mails_are_sent_loses_none(
    server: SmtpServer, start_service: MakeService, own_server: OwnServer
) -> None:
    database = look_into(own_server.url.replace("postgresql:", "postgresql+psycopg2:"))
    settings = {"database_url": own_server.url, "smtp_url": server.url, "mail_from": SENDER}
    office = Office(server, database, settings)
    start_service(**settings)
    dead = threading.Event()

    def kill() -> None:
        own_server.kill()
        dead.set()

    server.on_data = Moment(3, kill)
    office.post()
    assert dead.wait(PATIENCE_SECONDS)
    own_server.start_again()

    eventually(office.is_empty)
    assert office.each_arrived_as_itself()
    assert len(server.envelopes) == len(NAMES)  # what was taken meanwhile is on record, so that none is twice
    database.dispose()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("moment", ["recipient", "data", "taken"])
def test_a_mail_server_that_hangs_up_at_any_moment_loses_no_mail(
    office: Office, start_service: MakeService, moment: str
) -> None:
    server = office.server
    hang_up = Moment(3, server.cut_off)
    if moment == "recipient":
        server.answer_recipient = lambda _: hang_up() or TAKEN  # type: ignore[func-returns-value]
    else:
        server.on_data = hang_up
        server.keeps_what_it_cuts_off = moment == "taken"
    clock = MovableClock()
    start_service(clock=clock, **office.settings)
    office.post()

    def all_sent() -> bool:
        clock.move(minutes=2)
        return office.is_empty()

    eventually(all_sent)
    assert office.each_arrived_as_itself()


@pytest.mark.usefixtures("often")
def test_mails_wait_for_a_mail_server_that_is_down(office: Office, start_service: MakeService) -> None:
    office.server.stop()
    clock = MovableClock()
    clock.move(minutes=1)  # what is posted by then is due
    service = start_service(clock=clock, **office.settings)
    office.post()
    eventually(lambda: any(row.last_error for row in outbox(office.database)))

    office.server.start()

    def is_empty_in_time() -> bool:
        """However late the last mail fails that was on its way meanwhile."""
        clock.move(minutes=2)
        return office.is_empty()

    eventually(is_empty_in_time)
    assert office.each_arrived_as_itself()
    eventually(lambda: service.metric("app_mail_queue") == service.metric("app_mail_oldest_seconds") == 0)


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_gives_back_what_it_has_not_sent(
    office: Office, start: Callable[..., Started]
) -> None:
    service, asked, over = start(), threading.Event(), threading.Event()

    def stall() -> None:
        asked.set()
        over.wait(PATIENCE_SECONDS)

    office.server.on_data = stall
    office.post()
    assert asked.wait(PATIENCE_SECONDS)

    service.process.terminate()
    service.ends()
    with office.database.connect() as connection:
        query = text(
            "SELECT count(*) FROM outbox_messages WHERE state = 'queued' AND next_attempt_at <= now()"
        )
        due: Any = connection.execute(query).scalar_one()
    over.set()

    assert due == len(NAMES)
    assert {row.attempts for row in outbox(office.database)} == {0}


@pytest.mark.slow
def test_no_log_names_a_recipient_or_a_token(office: Office, start: Callable[..., Started]) -> None:
    answers = {NAMES[0]: TAKEN, NAMES[1]: f"550 {NAMES[1]} is unknown", NAMES[2]: f"450 {NAMES[2]} is busy"}
    office.server.answer_recipient = answers.__getitem__
    service = start(LOG_LEVEL="DEBUG")

    office.post(*answers)

    eventually(lambda: sorted(states(office.database)) == ["failed", "queued", "sent"])
    for event in ("mail.sent", "mail.failed", "mail.postponed"):
        service.wait_for(lambda event=event: event in service.output, event)  # type: ignore[misc]
    assert not any(each in service.output for each in ("reader", TOKEN, "Choose a new password"))
