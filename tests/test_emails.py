"""Emails that are confirmed, changed and got back, each by the link of a mail."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from jose import jwt
from sqlalchemy import Engine, text

from tests.support import (
    PASSWORD,
    Api,
    MakeService,
    MovableClock,
    at_once,
    bearer,
    error_of,
    eventually,
    new_email,
    until_blocked,
)
from tests.support.accounts import Admin, disable, end_reasons
from tests.support.mailboxes import Mailbox, link_in, sending, token_in
from tests.support.smtp import SmtpServer

INVALID_LINK = (400, "invalid_link")
TAKEN = (409, "email_taken")


class Person:
    """Somebody who has registered and logged in; `verification` is the token of the first mail."""

    def __init__(self, api: Api, server: SmtpServer) -> None:
        self.api = api
        self.mails = Mailbox(server, api.new_user())
        self.verification = self.mails.next_token()
        self.pair = api.log_in(self.mails.address)

    @property
    def me(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.me(self.pair["access_token"]).json()
        return answer

    def call(self, method: str, path: str, **json: Any) -> httpx.Response:
        headers = bearer(self.pair["access_token"])
        return self.api.http.request(method, f"/api/v1/me/{path}", json=json or None, headers=headers)

    def change_email(self, new_email: str, password: str = PASSWORD) -> httpx.Response:
        return self.call("PUT", "email", new_email=new_email, password=password)


@pytest.fixture
def person(mailing: Api, server: SmtpServer) -> Person:
    return Person(mailing, server)


def verify(api: Api, token: str) -> httpx.Response:
    return api.http.post("/api/v1/email/verify", json={"token": token})


def restore(api: Api, token: str) -> httpx.Response:
    return api.http.post("/api/v1/email/restore", json={"token": token})


def events_of(modules_engine: Engine, user_id: int) -> list[str]:
    with modules_engine.connect() as connection:
        query = text("SELECT event FROM audit_events WHERE user_id = :id ORDER BY id")
        return list(connection.execute(query, {"id": user_id}).scalars())


def test_a_registration_mails_a_link_that_confirms_the_email(
    mailing: Api, person: Person, modules_engine: Engine
) -> None:
    before = person.me["email_verified"]

    done = verify(mailing, person.verification)

    assert (before, done.status_code, done.content) == (False, 204, b"")
    assert person.me["email_verified"] is True
    assert error_of(verify(mailing, person.verification)) == INVALID_LINK
    assert "user.email_verified" in events_of(modules_engine, person.me["id"])


def test_a_link_confirms_for_a_day(mailing: Api, person: Person, clock: MovableClock) -> None:
    clock.move(hours=24)

    assert error_of(verify(mailing, person.verification)) == INVALID_LINK


def test_a_disabled_user_confirms_nothing(mailing: Api, person: Person, modules_engine: Engine) -> None:
    disable(modules_engine, person.mails.address)

    assert error_of(verify(mailing, person.verification)) == INVALID_LINK


def test_the_mail_can_be_sent_again_until_the_email_is_confirmed(mailing: Api, person: Person) -> None:
    again = person.call("POST", "email/verification")
    newer = person.mails.next_token()

    assert (again.status_code, again.content) == (202, b"")
    assert error_of(verify(mailing, person.verification)) == INVALID_LINK
    assert verify(mailing, newer).status_code == 204
    assert person.call("POST", "email/verification").status_code == 204


def test_a_link_of_a_reset_confirms_nothing_and_one_that_confirms_resets_nothing(
    mailing: Api, person: Person
) -> None:
    mailing.http.post("/api/v1/password/forgot", json={"email": person.mails.address})
    body = {"token": person.verification, "new_password": "another correct horse"}

    assert error_of(verify(mailing, person.mails.next_token())) == INVALID_LINK
    assert error_of(mailing.http.post("/api/v1/password/reset", json=body)) == INVALID_LINK
    assert error_of(restore(mailing, person.verification)) == INVALID_LINK


def test_a_new_email_is_the_accounts_once_its_link_is_followed(
    mailing: Api, person: Person, server: SmtpServer, modules_engine: Engine
) -> None:
    old, new = person.mails, Mailbox(server, new_email())

    asked = person.change_email(new.address.upper())
    mail = new.next()
    before = person.me["email"]
    done = verify(mailing, token_in(mail))

    assert (asked.status_code, asked.content) == (202, b"")
    assert link_in(mail).startswith("http://board.test/account/email?token=")
    assert old.next()["Subject"] == "Your account is about to get another email address"
    assert (before, done.status_code) == (old.address, 204)
    assert (person.me["email"], person.me["email_verified"]) == (new.address, True)
    assert new.next()["Subject"] == "Your email address was changed"
    assert mailing.refresh(person.pair["refresh_token"]).status_code == 200
    assert mailing.token(new.address).status_code == 200
    assert mailing.token(old.address).status_code == 401
    events = events_of(modules_engine, person.me["id"])
    assert {"user.email_change_requested", "user.email_changed"} <= set(events)


@pytest.mark.parametrize("new", ["no email", "", None])
def test_a_new_email_is_an_email(person: Person, new: Any) -> None:
    assert error_of(person.change_email(new)) == (400, "validation_error")


def test_a_new_email_needs_the_password(person: Person) -> None:
    assert error_of(person.change_email(new_email(), "wrong password")) == (401, "invalid_credentials")


def test_an_email_of_somebody_is_not_given_to_others(
    mailing: Api, person: Person, server: SmtpServer
) -> None:
    other = Person(mailing, server)

    assert error_of(person.change_email(other.mails.address)) == TAKEN
    assert error_of(person.change_email(person.mails.address)) == TAKEN


def test_an_email_that_was_taken_in_between_stays_its_owners(
    mailing: Api, person: Person, server: SmtpServer
) -> None:
    new = Mailbox(server, new_email())
    person.change_email(new.address)
    token = new.next_token()
    mailing.register(new.address)

    assert error_of(verify(mailing, token)) == TAKEN
    assert person.me["email"] == person.mails.address


def test_of_two_who_confirm_the_same_new_email_at_once_one_gets_it(mailing: Api, server: SmtpServer) -> None:
    people, new = [Person(mailing, server) for _ in range(2)], Mailbox(server, new_email())
    tokens = []
    for person in people:
        person.change_email(new.address)
        tokens.append(new.next_token())

    answers = at_once(2, lambda number: verify(mailing, tokens[number]).status_code)

    assert sorted(answers) == [204, 409]
    assert [person.me["email"] == new.address for person in people] == [each == 204 for each in answers]


def test_the_old_address_takes_the_account_back(
    mailing: Api, person: Person, server: SmtpServer, modules_engine: Engine
) -> None:
    old, new = person.mails, Mailbox(server, new_email())
    person.change_email(new.address)
    verify(mailing, new.next_token())
    notice = old.next()
    thief = mailing.log_in(new.address)

    done = restore(mailing, token_in(notice))

    assert link_in(notice).startswith("http://board.test/account/restore?token=")
    assert (done.status_code, done.content) == (204, b"")
    assert end_reasons(modules_engine, thief, person.pair) == ["password_reset"] * 2
    assert mailing.token(new.address).status_code == 401
    assert mailing.token(old.address).status_code == 401  # the thief knows the password
    body = {"token": old.next_token(), "new_password": "another correct horse"}
    assert mailing.http.post("/api/v1/password/reset", json=body).status_code == 204
    assert mailing.token(old.address, "another correct horse").status_code == 200
    assert error_of(restore(mailing, token_in(notice))) == INVALID_LINK


def test_the_old_address_prevents_the_change(mailing: Api, person: Person, server: SmtpServer) -> None:
    new = Mailbox(server, new_email())
    person.change_email(new.address)

    assert restore(mailing, person.mails.next_token()).status_code == 204
    assert error_of(verify(mailing, new.next_token())) == INVALID_LINK


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_password_that_is_replaced_while_it_is_verified_changes_and_deletes_nothing(
    mailing: Api, person: Person, modules_engine: Engine, method: str
) -> None:
    mailing.http.post("/api/v1/password/forgot", json={"email": person.mails.address})
    reset = {"token": person.mails.next_token(), "new_password": "another correct horse"}
    calls: list[Callable[[], httpx.Response]] = [
        lambda: mailing.http.post("/api/v1/password/reset", json=reset),
        lambda: (
            person.change_email(new_email())
            if method == "PUT"
            else person.call("POST", "delete", password=PASSWORD)
        ),
    ]
    with modules_engine.execution_options(isolation_level="READ COMMITTED").connect() as other:
        query = text("SELECT FROM users WHERE email = :email FOR UPDATE")
        other.execute(query, {"email": person.mails.address})
        with ThreadPoolExecutor() as pool:
            answers = []
            for number, call in enumerate(calls, 1):
                answers.append(pool.submit(call))
                until_blocked(modules_engine, number)
            other.rollback()
            owners, thiefs = (each.result() for each in answers)

    assert owners.status_code == 204
    assert error_of(thiefs) == (401, "invalid_credentials")
    assert mailing.token(person.mails.address, "another correct horse").status_code == 200


def test_who_deletes_an_account_with_a_way_back_is_told_of_at_the_old_address_too(
    mailing: Api, person: Person, server: SmtpServer
) -> None:
    new = Mailbox(server, new_email())
    person.change_email(new.address)
    verify(mailing, new.next_token())
    new.next()
    person.mails.next()

    assert person.call("POST", "delete", password=PASSWORD).status_code == 204

    assert person.mails.next()["Subject"] == new.next()["Subject"] == "Your account was deleted"


def test_an_address_that_was_never_confirmed_is_nobodys(
    mailing: Api, person: Person, server: SmtpServer
) -> None:
    new = Mailbox(server, new_email())
    person.change_email(new.address)
    verify(mailing, new.next_token())

    assert mailing.register(person.mails.address).status_code == 201
    assert error_of(restore(mailing, person.mails.next_token())) == TAKEN


def test_what_was_asked_for_before_a_user_was_disabled_is_good_no_more(
    mailing: Api, person: Person, server: SmtpServer, modules_engine: Engine
) -> None:
    admin, new = Admin(mailing, modules_engine), Mailbox(server, new_email())
    mailing.http.post("/api/v1/password/forgot", json={"email": person.mails.address})
    token = person.mails.next_token()
    person.change_email(new.address)
    user_id = person.me["id"]
    for is_active in (False, True):
        admin.change(user_id, is_active=is_active)

    body = {"token": token, "new_password": "another correct horse"}
    assert error_of(mailing.http.post("/api/v1/password/reset", json=body)) == INVALID_LINK
    assert error_of(verify(mailing, new.next_token())) == INVALID_LINK


def test_a_reset_that_an_administrator_starts_ends_a_change_of_the_email(
    mailing: Api, person: Person, server: SmtpServer, modules_engine: Engine
) -> None:
    new = Mailbox(server, new_email())
    person.change_email(new.address)
    Admin(mailing, modules_engine).call("POST", f"/{person.me['id']}/password-reset")

    assert error_of(verify(mailing, new.next_token())) == INVALID_LINK


def test_who_gets_a_disabled_account_back_is_told_that_it_is_disabled(
    mailing: Api, person: Person, modules_engine: Engine
) -> None:
    person.change_email(new_email())
    token = person.mails.next_token()
    disable(modules_engine, person.mails.address)

    assert restore(mailing, token).status_code == 204
    assert person.mails.next()["Subject"] == "Your account is disabled"


def test_the_email_of_a_bootstrap_user_is_the_operators_to_change(
    start_service: MakeService, server: SmtpServer, modules_database_url: str, clock: MovableClock
) -> None:
    email = new_email()
    listed = [{"email": email, "role": "admin", "password": PASSWORD}]
    api = start_service(
        database_url=modules_database_url, clock=clock, bootstrap_users=listed, **sending(server)
    )
    headers = bearer(eventually(lambda: api.token(email).json().get("access_token")))
    change = {"new_email": new_email(), "password": PASSWORD}

    assert error_of(api.http.put("/api/v1/me/email", json=change, headers=headers)) == (403, "forbidden")


def test_a_thief_who_changes_it_twice_does_not_take_the_first_way_back(
    mailing: Api, person: Person, server: SmtpServer
) -> None:
    first, second = (Mailbox(server, new_email()) for _ in range(2))
    person.change_email(first.address)
    verify(mailing, first.next_token())
    way_back = person.mails.next_token()
    person.change_email(second.address)
    verify(mailing, second.next_token())
    first.next()  # it has changed

    assert restore(mailing, way_back).status_code == 204
    assert error_of(restore(mailing, first.next_token())) == INVALID_LINK
    assert mailing.register(first.address).status_code == 201


def test_nobody_takes_an_email_that_somebody_can_go_back_to(
    mailing: Api, person: Person, server: SmtpServer, clock: MovableClock
) -> None:
    old, new, other = person.mails, Mailbox(server, new_email()), Person(mailing, server)
    verify(mailing, person.verification)
    person.change_email(new.address)
    verify(mailing, new.next_token())
    other.change_email(old.address)
    old.next()  # the way back

    assert error_of(mailing.register(old.address)) == TAKEN
    assert error_of(verify(mailing, old.next_token())) == TAKEN
    assert person.change_email(old.address).status_code == 202
    clock.move(hours=73)
    assert mailing.register(old.address).status_code == 201


def test_the_way_back_is_open_for_three_days(
    mailing: Api, person: Person, server: SmtpServer, clock: MovableClock
) -> None:
    new = Mailbox(server, new_email())
    person.change_email(new.address)
    verify(mailing, new.next_token())
    token = person.mails.next_token()

    clock.move(hours=72)
    assert error_of(restore(mailing, token)) == INVALID_LINK


def test_a_link_to_the_old_address_resets_nothing_after_the_change(
    mailing: Api, person: Person, server: SmtpServer
) -> None:
    mailing.http.post("/api/v1/password/forgot", json={"email": person.mails.address})
    token, new = person.mails.next_token(), Mailbox(server, new_email())
    person.change_email(new.address)
    verify(mailing, new.next_token())

    body = {"token": token, "new_password": "another correct horse"}
    assert error_of(mailing.http.post("/api/v1/password/reset", json=body)) == INVALID_LINK


def test_a_new_password_ends_a_change_that_was_asked_for_before(
    mailing: Api, person: Person, server: SmtpServer
) -> None:
    new = Mailbox(server, new_email())
    person.change_email(new.address)
    person.call("PUT", "password", current_password=PASSWORD, new_password="another correct horse")

    assert error_of(verify(mailing, new.next_token())) == INVALID_LINK


def test_mails_that_somebody_asks_for_are_limited(
    start_service: MakeService, server: SmtpServer, fresh_database_url: str
) -> None:
    api = start_service(database_url=fresh_database_url, throttles=True, **sending(server))
    person = Person(api, server)

    target, others = new_email(), [Person(api, server) for _ in range(4)]
    to_one = [each.change_email(target).status_code for each in others]
    changes = [person.change_email(new_email()).status_code for _ in range(4)]
    again = [person.call("POST", "email/verification").status_code for _ in range(4)]
    forgot = api.http.post("/api/v1/password/forgot", json={"email": person.mails.address})

    assert to_one == changes == again == [202, 202, 202, 429]
    assert forgot.status_code == 202


@pytest.fixture(scope="module")
def strict(
    start_lasting_service: MakeService, server: SmtpServer, clock: MovableClock, modules_database_url: str
) -> Api:
    return start_lasting_service(
        clock=clock, database_url=modules_database_url, require_verified_email=True, **sending(server)
    )


def test_who_has_confirmed_no_email_does_not_log_in_and_gets_the_mail_again(
    strict: Api, server: SmtpServer
) -> None:
    mails = Mailbox(server, strict.new_user())
    first = mails.next_token()

    assert error_of(strict.token(mails.address, "wrong password")) == (401, "invalid_credentials")
    refused = strict.token(mails.address)
    assert error_of(refused) == (403, "email_not_verified")
    assert "set-cookie" not in refused.headers
    assert error_of(verify(strict, first)) == INVALID_LINK
    assert verify(strict, mails.next_token()).status_code == 204
    assert strict.token(mails.address).status_code == 200


def test_who_was_made_by_an_administrator_counts_as_confirmed(strict: Api, modules_engine: Engine) -> None:
    with modules_engine.connect() as connection:
        email = strict.new_user()
        query = text("UPDATE users SET email_verified_at = now() WHERE email = :email")
        connection.execute(query, {"email": email})
    admin = Admin(strict, modules_engine, email)
    made = admin.call("POST", json={"email": new_email(), "password": PASSWORD}).json()

    assert made["email_verified"] is True
    assert strict.token(made["email"]).status_code == 200
    listed = {user["id"]: user["email_verified"] for user in admin.call("GET", "?limit=100").json()}
    assert listed[made["id"]] is True


def test_a_token_tells_the_email_where_that_is_wanted(
    start_service: MakeService,
    server: SmtpServer,
    mailing: Api,
    clock: MovableClock,
    modules_database_url: str,
) -> None:
    telling = start_service(
        clock=clock, database_url=modules_database_url, access_token_email=True, **sending(server)
    )
    mails = Mailbox(server, telling.new_user())
    pair = telling.log_in(mails.address)
    before = jwt.get_unverified_claims(pair["access_token"])
    verify(telling, mails.next_token())
    after = jwt.get_unverified_claims(telling.refresh(pair["refresh_token"]).json()["access_token"])

    assert (before["email"], before["email_verified"]) == (mails.address, False)
    assert (after["email"], after["email_verified"]) == (mails.address, True)
    assert "email" not in jwt.get_unverified_claims(mailing.log_in(mails.address)["access_token"])
