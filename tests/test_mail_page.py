"""Without a mail server, mails of development are files, and a page that nobody else has shows them."""

from pathlib import Path

import pytest

from app import devdb
from app.services.delivery import mail_sender
from tests.support import Api, MakeService, MovableClock, error_of, eventually
from tests.support.mails import post

PAGE = "/dev/mail"
SMTP = {"smtp_url": "smtp://127.0.0.1:1?starttls=off", "mail_from": "Kanban <no-reply@example.com>"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(devdb, "DATA", tmp_path)
    monkeypatch.setattr(mail_sender, "POLL_SECONDS", 0.05)
    return tmp_path / "mail"


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def service(start_service: MakeService, fresh_database_url: str, clock: MovableClock, folder: Path) -> Api:
    assert not folder.exists()
    return start_service(database_url=fresh_database_url, smtp_url=None, clock=clock)


def test_mails_are_on_the_page_newest_first_with_links_that_can_be_followed(
    service: Api, clock: MovableClock
) -> None:
    assert "newest 0 that" in service.http.get(PAGE).text
    for name in ("first", "second", "third"):
        post(service.operator, f"{name}@example.com")
        clock.move(seconds=1)
        eventually(lambda name=name: f"To {name}@" in service.http.get(PAGE).text)  # type: ignore[misc]
    page = service.http.get(PAGE)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "style-src 'unsafe-inline'" in page.headers["content-security-policy"]
    assert "script" not in page.headers["content-security-policy"]
    places = [page.text.index(f"To {name}@example.com") for name in ("third", "second", "first")]
    assert places == sorted(places)
    assert '<a href="https://board.example.com/account/reset?token=' in page.text
    assert "<h2>Choose a new password</h2>" in page.text


def test_the_page_shows_what_a_mail_says_and_runs_none_of_it(service: Api, folder: Path) -> None:
    folder.mkdir()
    (folder / "20300101T000000-x.eml").write_bytes(
        b"From: a@example.com\r\nTo: <b@example.com>\r\nSubject: <script>alert(1)</script>\r\n"
        b'Date: Tue, 01 Jan 2030 00:00:00 +0000\r\n\r\nhttps://example.com/"onclick=x\r\n<img src=x>\r\n'
    )

    text = service.http.get(PAGE).text

    assert "<script" not in text
    assert "<img" not in text
    assert '"onclick' not in text
    assert "&lt;img src=x&gt;" in text


@pytest.mark.parametrize(
    "settings",
    [
        {"environment": "production"},
        {"environment": "production", "public_url": "https://auth.example.com", **SMTP},
        SMTP,
    ],
    ids=["production", "production with a mail server", "development with a mail server"],
)
def test_elsewhere_there_is_no_such_page(start_service: MakeService, settings: dict[str, str]) -> None:
    response = start_service(mail_language="en", **settings).http.get(PAGE)

    assert error_of(response) == (404, "not_found")
