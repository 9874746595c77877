"""People hear of what happens to their accounts."""

import pytest
from sqlalchemy import Engine, text

from tests.support import PASSWORD, Api, MakeService, bearer
from tests.support.accounts import Admin
from tests.support.commands import run_command
from tests.support.mailboxes import Mailbox, sending, text_of
from tests.support.smtp import SmtpServer

CHROME = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"}
FIREFOX = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"}


@pytest.fixture(scope="module")
def service(start_lasting_service: MakeService, server: SmtpServer) -> Api:
    return start_lasting_service(refresh_reuse_leeway_seconds=0, **sending(server))


@pytest.fixture
def user(service: Api, server: SmtpServer) -> Mailbox:
    mails = Mailbox(server, service.new_user())
    mails.next()
    return mails


def log_in(api: Api, user: Mailbox, **headers: str) -> dict[str, str]:
    form = {"username": user.address, "password": PASSWORD}
    response = api.http.post("/api/v1/token", data=form, headers=headers)
    assert response.status_code == 200
    pair: dict[str, str] = response.json()
    return pair | {"device": response.cookies["device"]}


def queued(engine: Engine, user: Mailbox) -> list[str]:
    with engine.connect() as connection:
        query = text("SELECT kind FROM outbox_messages WHERE recipient = :email ORDER BY created_at")
        return list(connection.execute(query, {"email": user.address}).scalars())[1:]


def test_a_password_that_was_changed(service: Api, user: Mailbox) -> None:
    token = log_in(service, user)["access_token"]
    change = {"current_password": PASSWORD, "new_password": "another correct horse"}

    service.http.put("/api/v1/me/password", json=change, headers=bearer(token) | FIREFOX)

    mail = user.next()
    assert mail["Subject"] == "Your password was changed"
    assert "Firefox on Windows" in text_of(mail)
    assert "127.0.0.1" in text_of(mail)


def test_a_password_that_an_operator_has_set(user: Mailbox, database_url: str, server: SmtpServer) -> None:
    mail = {"SMTP_URL": server.url + "?starttls=off", "MAIL_FROM": "a@board.test"}
    mail |= {"PUBLIC_URL": "https://board.test"}
    done = run_command(
        database_url, "users", "set-password", user.address, "--password-stdin",
        stdin="another correct horse", **mail,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "the people who run" in text_of(user.next())


def test_a_login_on_a_device_that_the_account_does_not_know(
    service: Api, user: Mailbox, engine: Engine
) -> None:
    device = log_in(service, user)["device"]  # of a new account the first one is no news
    log_in(service, user)  # without its cookie, but alike
    log_in(service, user, **FIREFOX, Cookie=f"device={device}")
    assert queued(engine, user) == []

    log_in(service, user, **CHROME)

    mail = user.next()
    assert mail["Subject"] == "A sign-in from a new device"
    assert "Chrome on Linux" in text_of(mail)
    log_in(service, user, **CHROME)
    assert queued(engine, user) == ["new_device_login"]


def test_guests_who_share_an_account_are_no_news(service: Api, user: Mailbox, engine: Engine) -> None:
    with engine.connect() as connection:
        query = text("UPDATE users SET role = 'guest' WHERE email = :email")
        connection.execute(query, {"email": user.address})

    for headers in (FIREFOX, CHROME):
        log_in(service, user, **headers)

    assert queued(engine, user) == []


def test_a_first_login_to_an_account_that_is_not_new(service: Api, user: Mailbox, engine: Engine) -> None:
    with engine.connect() as connection:
        query = text("UPDATE users SET created_at = created_at - interval '2 days' WHERE email = :email")
        connection.execute(query, {"email": user.address})

    log_in(service, user)

    assert user.next()["Subject"] == "A sign-in from a new device"


def test_an_account_that_was_deleted(service: Api, user: Mailbox, engine: Engine) -> None:
    token, admin = log_in(service, user)["access_token"], Admin(service, engine)
    other = Mailbox(user._server, service.new_user())
    other.next()

    service.http.post("/api/v1/me/delete", json={"password": PASSWORD}, headers=bearer(token))
    admin.call("DELETE", f"/{service.me(service.log_in(other.address)['access_token']).json()['id']}")

    assert user.next()["Subject"] == other.next()["Subject"] == "Your account was deleted"


def test_a_refresh_token_that_was_used_twice(service: Api, user: Mailbox, engine: Engine) -> None:
    pair = log_in(service, user)
    for _ in range(3):
        service.refresh(pair["refresh_token"])

    assert user.next()["Subject"] == "A session was ended for your safety"
    assert queued(engine, user) == ["refresh_token_reused"]


def test_each_notice_can_be_turned_off(
    start_service: MakeService, server: SmtpServer, engine: Engine
) -> None:
    notices = ("password_changed", "new_device_login", "account_deleted", "refresh_token_reused")
    quiet = start_service(
        refresh_reuse_leeway_seconds=0,
        **sending(server, **{f"notify_{notice}": False for notice in notices}),
    )
    user = Mailbox(server, quiet.new_user())
    pair = log_in(quiet, user)
    for _ in range(2):
        quiet.refresh(pair["refresh_token"])
    token = log_in(quiet, user, **FIREFOX)["access_token"]
    change = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    token = quiet.http.put("/api/v1/me/password", json=change, headers=bearer(token)).json()["access_token"]
    deleted = quiet.http.post("/api/v1/me/delete", json={"password": PASSWORD + "!"}, headers=bearer(token))

    assert deleted.status_code == 204
    assert queued(engine, user) == []
