"""A link of a mail works once, for one purpose and until its time: whoever reads the table cannot use it."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.models.one_time_tokens import Purpose
from app.services.delivery.one_time_tokens import LIFETIMES, OneTimeTokenService
from tests.support import Api, MakeService, MovableClock, at_once
from tests.support.accounts import register


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(scope="module")
def service(start_lasting_service: MakeService, clock: MovableClock) -> Api:
    return start_lasting_service(clock=clock)


@pytest.fixture
def tokens(service: Api) -> OneTimeTokenService:
    return service.operator.mails.tokens


@pytest.fixture(scope="module")
def user_id(service: Api) -> int:
    return int(register(service)["id"])


def rows(engine: Engine, user_id: int) -> list[Any]:
    with engine.connect() as connection:
        query = text("SELECT token_hash, purpose FROM one_time_tokens WHERE user_id = :id ORDER BY purpose")
        return list(connection.execute(query, {"id": user_id}))


def test_a_token_is_spent_once(service: Api, tokens: OneTimeTokenService, user_id: int) -> None:
    db = service.operator.resources.requests
    token = tokens.issue(db, Purpose.EMAIL_CHANGE, user_id, email="new@example.com").token

    spent = tokens.spend(db, token, Purpose.EMAIL_CHANGE)
    assert spent is not None
    assert spent[:3] == (Purpose.EMAIL_CHANGE, user_id, "new@example.com")
    assert tokens.spend(db, token, Purpose.EMAIL_CHANGE) is None


def test_of_many_who_spend_a_token_at_once_one_gets_it(
    service: Api, tokens: OneTimeTokenService, user_id: int
) -> None:
    db = service.operator.resources.requests
    token = tokens.issue(db, Purpose.PASSWORD_RESET, user_id).token

    spent = at_once(8, lambda _: tokens.spend(db, token, Purpose.PASSWORD_RESET))

    assert sorted(map(bool, spent)) == [False] * 7 + [True]


def test_a_token_is_good_for_its_purpose_alone(
    service: Api, tokens: OneTimeTokenService, user_id: int
) -> None:
    db = service.operator.resources.requests
    token = tokens.issue(db, Purpose.EMAIL_VERIFICATION, user_id).token

    assert tokens.spend(db, token, Purpose.PASSWORD_RESET) is None
    assert tokens.spend(db, token, Purpose.EMAIL_VERIFICATION) is not None


@pytest.mark.parametrize("purpose", Purpose)
def test_a_token_is_good_until_its_time(
    service: Api, tokens: OneTimeTokenService, user_id: int, clock: MovableClock, purpose: Purpose
) -> None:
    db, begin = service.operator.resources.requests, clock.now
    issued = tokens.issue(db, purpose, user_id)

    clock.now = issued.expires_at
    assert tokens.spend(db, issued.token, purpose) is None
    clock.move(seconds=-1)
    assert tokens.spend(db, issued.token, purpose) is not None
    assert issued.expires_at == begin + LIFETIMES[purpose]
    clock.now = begin


def test_a_newer_token_takes_the_place_of_the_older_one_of_its_purpose(
    service: Api, tokens: OneTimeTokenService, engine: Engine
) -> None:
    db, user_id = service.operator.resources.requests, register(service)["id"]
    older = tokens.issue(db, Purpose.PASSWORD_RESET, user_id).token
    other = tokens.issue(db, Purpose.INVITATION, user_id).token
    newer = tokens.issue(db, Purpose.PASSWORD_RESET, user_id).token

    assert [row.purpose for row in rows(engine, user_id)] == ["invitation", "password_reset"]
    assert tokens.spend(db, older, Purpose.PASSWORD_RESET) is None
    assert tokens.spend(db, newer, Purpose.PASSWORD_RESET) is not None
    assert tokens.spend(db, other, Purpose.INVITATION) is not None


def test_the_table_holds_no_token(service: Api, tokens: OneTimeTokenService, engine: Engine) -> None:
    db, user_id = service.operator.resources.requests, register(service)["id"]
    token = tokens.issue(db, Purpose.PASSWORD_RESET, user_id).token

    (row,) = rows(engine, user_id)

    assert len(token) == 43  # 256 bits in base64url
    assert len(row.token_hash) == 32
    assert token.encode() not in bytes(row.token_hash)


def test_the_tokens_of_a_deleted_user_go_with_them(
    service: Api, tokens: OneTimeTokenService, engine: Engine
) -> None:
    db, user_id = service.operator.resources.requests, register(service)["id"]
    tokens.issue(db, Purpose.PASSWORD_RESET, user_id)

    with engine.connect() as connection:
        connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": user_id})

    assert rows(engine, user_id) == []
