"""Forgotten passwords: a link by mail, good once, and nothing that says who has an account."""

from statistics import median
from time import perf_counter
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from app.services.delivery import mail_sender
from tests.support import (
    PASSWORD,
    Api,
    MakeService,
    MovableClock,
    at_once,
    bearer,
    error_of,
    new_email,
)
from tests.support.accounts import Admin, disable, end_reasons
from tests.support.commands import run_command
from tests.support.mailboxes import Mailbox, link_in, sending, text_of
from tests.support.smtp import SmtpServer

NEW_PASSWORD = "another correct horse"
INVALID_LINK = (400, "invalid_link")


@pytest.fixture
def user(mailing: Api, server: SmtpServer) -> Mailbox:
    """Whose mail of the registration is read."""
    mailbox = Mailbox(server, mailing.new_user())
    mailbox.next()
    return mailbox


@pytest.fixture
def admin(mailing: Api, modules_engine: Engine) -> Admin:
    return Admin(mailing, modules_engine)


def forget(api: Api, email: str, **headers: str) -> httpx.Response:
    return api.http.post("/api/v1/password/forgot", json={"email": email}, headers=headers)


def reset(api: Api, token: str, password: str = NEW_PASSWORD) -> httpx.Response:
    return api.http.post("/api/v1/password/reset", json={"token": token, "new_password": password})


def requested_token(api: Api, user: Mailbox) -> str:
    assert forget(api, user.address).status_code == 202
    return user.next_token()


def test_a_forgotten_password_is_replaced_by_the_link_of_a_mail(
    mailing: Api, user: Mailbox, modules_engine: Engine
) -> None:
    pairs = [mailing.log_in(user.address) for _ in range(2)]

    answer = forget(mailing, user.address.upper())
    mail = user.next()
    done = reset(mailing, link_in(mail).rpartition("=")[2])

    assert (answer.status_code, answer.content) == (202, b"")
    assert link_in(mail).startswith("http://board.test/account/reset?token=")
    assert (done.status_code, done.content) == (204, b"")
    assert end_reasons(modules_engine, *pairs) == ["password_reset"] * 2
    assert mailing.me(pairs[0]["access_token"]).status_code == 401
    assert error_of(mailing.token(user.address)) == (401, "invalid_credentials")
    assert mailing.token(user.address, NEW_PASSWORD).status_code == 200
    assert user.next()["Subject"] == "Your password was reset"


def test_the_mail_is_in_the_language_of_the_request(mailing: Api, user: Mailbox) -> None:
    forget(mailing, user.address, **{"Accept-Language": "de-AT, en;q=0.5"})

    assert user.next()["Subject"] == "Wählen Sie ein neues Passwort"


def test_a_link_is_good_once(mailing: Api, user: Mailbox) -> None:
    token = requested_token(mailing, user)

    assert reset(mailing, token).status_code == 204
    assert error_of(reset(mailing, token, "yet another correct horse")) == INVALID_LINK
    assert mailing.token(user.address, NEW_PASSWORD).status_code == 200


def test_of_many_resets_at_once_one_wins(mailing: Api, user: Mailbox) -> None:
    token = requested_token(mailing, user)
    passwords = [f"correct horse number {number}" for number in range(6)]

    answers = at_once(6, lambda number: reset(mailing, token, passwords[number]).status_code)

    assert sorted(answers) == [204, *[400] * 5]
    logins = [mailing.token(user.address, password).status_code for password in passwords]
    assert logins == [200 if answer == 204 else 401 for answer in answers]


def test_a_newer_link_replaces_the_older_one(mailing: Api, user: Mailbox) -> None:
    older, newer = requested_token(mailing, user), requested_token(mailing, user)

    assert error_of(reset(mailing, older)) == INVALID_LINK
    assert reset(mailing, newer).status_code == 204


def test_a_link_is_good_for_half_an_hour(mailing: Api, user: Mailbox, clock: MovableClock) -> None:
    token = requested_token(mailing, user)

    clock.move(minutes=30)
    assert error_of(reset(mailing, token)) == INVALID_LINK


@pytest.mark.parametrize(
    ("password", "code"),
    [("short", "validation_error"), ("password1", "password_too_common"), ("", "validation_error")],
)
def test_a_new_password_keeps_the_rules_and_the_link_survives_one_that_does_not(
    mailing: Api, user: Mailbox, password: str, code: str
) -> None:
    token = requested_token(mailing, user)

    assert error_of(reset(mailing, token, password)) == (400, code)
    assert error_of(reset(mailing, token, user.address)) == (400, "password_too_common")
    assert reset(mailing, token).status_code == 204


@pytest.mark.parametrize("token", ["nonsense", "ä", "A" * 43])
def test_no_token_is_as_good_as_a_wrong_one(mailing: Api, token: str) -> None:
    assert error_of(reset(mailing, token)) == INVALID_LINK


@pytest.mark.parametrize(
    "body", [{}, {"email": "no email"}, {"email": 1}, {"email": "a@example.com\x00"}, [], "x"]
)
def test_what_is_no_email_is_refused(mailing: Api, body: Any) -> None:
    assert error_of(mailing.http.post("/api/v1/password/forgot", json=body)) == (400, "validation_error")


def test_a_disabled_account_gets_a_mail_that_says_so(
    mailing: Api, user: Mailbox, modules_engine: Engine
) -> None:
    token = requested_token(mailing, user)
    disable(modules_engine, user.address)

    assert error_of(reset(mailing, token)) == INVALID_LINK
    assert forget(mailing, user.address).status_code == 202
    mail = user.next()
    assert mail["Subject"] == "Your account is disabled"
    assert "token=" not in text_of(mail)


@pytest.mark.parametrize("who", ["nobody", "a guest"])
def test_an_unknown_address_gets_no_mail_nor_do_guests_who_share_an_account(
    mailing: Api, admin: Admin, modules_engine: Engine, who: str
) -> None:
    email = new_email()
    if who == "a guest":
        admin.call("POST", json={"email": email, "password": PASSWORD, "role": "guest"})

    answer = forget(mailing, email)

    assert (answer.status_code, answer.content) == (202, b"")
    with modules_engine.connect() as connection:
        query = text("SELECT count(*) FROM outbox_messages WHERE recipient = :email")
        assert connection.execute(query, {"email": email}).scalar_one() == 0


def test_a_link_to_an_older_email_or_from_before_a_new_password_is_good_no_more(
    mailing: Api, user: Mailbox
) -> None:
    token, access = requested_token(mailing, user), mailing.log_in(user.address)["access_token"]

    change = {"current_password": PASSWORD, "new_password": "another correct horse"}
    assert mailing.http.put("/api/v1/me/password", json=change, headers=bearer(access)).status_code == 200

    assert error_of(reset(mailing, token, "yet another correct horse")) == INVALID_LINK


def test_a_reset_lets_the_owner_in_who_was_locked_out(
    start_service: MakeService, server: SmtpServer, fresh_database_url: str
) -> None:
    api = start_service(
        database_url=fresh_database_url, throttles=True, throttle_login_account="2/3600s", **sending(server)
    )
    user = Mailbox(server, api.new_user())
    user.next()
    for _ in range(2):
        api.token(user.address, "wrong password")
    assert api.token(user.address).status_code == 429

    assert reset(api, requested_token(api, user)).status_code == 204

    assert api.token(user.address, NEW_PASSWORD).status_code == 200


def test_an_account_and_an_address_can_ask_for_so_many_mails(
    start_service: MakeService, server: SmtpServer, fresh_database_url: str
) -> None:
    api = start_service(
        database_url=fresh_database_url, throttles=True, throttle_recover_address="5/3600s", **sending(server)
    )
    email, stranger = api.new_user(), new_email()

    known = [forget(api, email) for _ in range(4)]
    unknown = [forget(api, stranger) for _ in range(2)]
    other = forget(api, new_email())

    assert [each.status_code for each in known] == [202, 202, 202, 429]
    assert 1100 < int(known[3].headers["retry-after"]) <= 1200
    assert [each.status_code for each in unknown] == [202, 202]
    assert error_of(other) == (429, "too_many_requests")


@pytest.mark.slow
def test_an_answer_takes_as_long_for_an_unknown_address(mailing: Api) -> None:
    known, unknown = mailing.new_user(), new_email()
    took: dict[str, list[float]] = {known: [], unknown: []}
    for _ in range(40):
        for email in (known, unknown):
            begin = perf_counter()
            assert forget(mailing, email).status_code == 202
            took[email].append(perf_counter() - begin)

    assert median(took[known]) == pytest.approx(median(took[unknown]), rel=0.1)


def test_an_administrator_starts_a_reset_and_chooses_no_password(
    mailing: Api, admin: Admin, user: Mailbox
) -> None:
    user_id = mailing.me(mailing.log_in(user.address)["access_token"]).json()["id"]

    started = admin.call("POST", f"/{user_id}/password-reset")

    assert (started.status_code, started.content) == (202, b"")
    assert mailing.token(user.address).status_code == 200
    assert reset(mailing, user.next_token()).status_code == 204
    assert mailing.token(user.address, NEW_PASSWORD).status_code == 200
    assert error_of(admin.call("POST", "/999999999/password-reset")) == (404, "not_found")


def test_a_user_starts_no_reset_of_others(mailing: Api, user: Mailbox) -> None:
    headers = bearer(mailing.log_in(user.address)["access_token"])

    refused = mailing.http.post("/api/v1/admin/users/1/password-reset", headers=headers)

    assert error_of(refused) == (403, "forbidden")


def test_who_is_invited_chooses_the_first_password(mailing: Api, admin: Admin, server: SmtpServer) -> None:
    invited = Mailbox(server, new_email())

    made = admin.call("POST", json={"email": invited.address, "invite": True, "role": "guest"})

    assert made.status_code == 201
    assert (made.json()["role"], made.json()["email_verified"]) == ("guest", False)
    assert error_of(mailing.token(invited.address)) == (401, "invalid_credentials")
    mail = invited.next()
    assert mail["Subject"] == "Your Kanban account"
    assert reset(mailing, link_in(mail).rpartition("=")[2]).status_code == 204
    pair = mailing.token(invited.address, NEW_PASSWORD).json()
    assert mailing.me(pair["access_token"]).json()["email_verified"] is True


@pytest.mark.parametrize("extra", [{}, {"invite": True, "password": PASSWORD}, {"invite": False}])
def test_an_account_is_made_with_a_password_or_an_invitation(admin: Admin, extra: dict[str, Any]) -> None:
    refused = admin.call("POST", json={"email": new_email(), **extra})

    assert error_of(refused) == (400, "validation_error")


def test_an_operator_invites_and_starts_a_reset(
    start_service: MakeService, server: SmtpServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_sender, "POLL_SECONDS", 0.1)
    api, invited = start_service(**sending(server)), Mailbox(server, new_email())
    user = Mailbox(server, api.new_user())
    user.next()
    mail = {"SMTP_URL": server.url + "?starttls=off", "MAIL_FROM": "a@board.test"}
    mail |= {"PUBLIC_URL": "https://board.test"}

    made = run_command(database_url, "users", "create", invited.address, "--invite", **mail)
    started = run_command(database_url, "users", "reset-password", user.address, **mail)

    assert (made.returncode, started.returncode) == (0, 0), made.stderr + started.stderr
    assert reset(api, invited.next_token()).status_code == 204
    assert reset(api, user.next_token()).status_code == 204


def test_without_mail_nothing_that_needs_it_is_begun(
    start_service: MakeService, modules_database_url: str, modules_engine: Engine
) -> None:
    api = start_service(database_url=modules_database_url)
    admin, email = Admin(api, modules_engine), new_email()
    headers = bearer(admin.token)

    refused = [
        forget(api, admin.email),
        admin.call("POST", f"/{admin.id}/password-reset"),
        admin.call("POST", json={"email": email, "invite": True}),
        api.http.put("/api/v1/me/email", json={"new_email": email, "password": PASSWORD}, headers=headers),
        api.http.post("/api/v1/me/email/verification", headers=headers),
    ]

    assert [error_of(each) for each in refused] == [(503, "mail_not_configured")] * 5
    assert api.token(email).status_code == 401
