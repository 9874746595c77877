"""Which secret does what, and how one is replaced."""

from typing import Any

import pytest
from jose import jwt
from jose.exceptions import JWTError

from app.security.keys import derive
from tests.support import SECRET_KEY, Api, MakeService, error_of
from tests.test_tokens import access_claims, refresh_claims, sign

NEW_KEY = "another secret key of the tests, newer than the one before"
SHARED = "a secret that siblings of the tests have as well"
AFTER = {"secret_key": NEW_KEY, "secret_key_fallbacks": (SECRET_KEY,)}


@pytest.fixture(scope="module")
def after(start_lasting_service: MakeService) -> Api:
    """A service with a new SECRET_KEY, which knows the one of before."""
    return start_lasting_service(**AFTER)


@pytest.fixture(scope="module")
def apart(start_lasting_service: MakeService) -> Api:
    """A service whose siblings have a secret of their own."""
    return start_lasting_service(jwt_secret=SHARED)


def signed_with(token: str, secret: str, *, refresh: bool = False) -> bool:
    key: Any = derive(secret, b"kanban-auth refresh token v1") if refresh else secret
    try:
        jwt.decode(token, key, algorithms=["HS256"])
    except JWTError:
        return False
    return True


def test_a_new_secret_key_ends_no_session(api: Api, after: Api) -> None:
    pair = api.log_in()

    assert after.me(pair["access_token"]).status_code == 200
    response = after.refresh(pair["refresh_token"])

    assert response.status_code == 200
    assert after.refresh(response.json()["refresh_token"]).status_code == 200


def test_a_refresh_signs_with_the_new_secret_key(api: Api, after: Api) -> None:
    old = api.log_in()

    new = after.refresh(old["refresh_token"]).json()

    assert signed_with(old["refresh_token"], SECRET_KEY, refresh=True)
    assert signed_with(new["refresh_token"], NEW_KEY, refresh=True)
    assert signed_with(new["access_token"], NEW_KEY)


def test_a_lost_answer_is_repeated_byte_for_byte_after_a_change_of_the_secret_key(
    api: Api, after: Api
) -> None:
    old = api.log_in()["refresh_token"]

    first = after.refresh(old, key="once").json()
    again = after.refresh(old, key="once").json()

    assert again["refresh_token"] == first["refresh_token"]


def test_a_lost_answer_of_before_the_change_is_repeated_with_a_token_that_works(api: Api, after: Api) -> None:
    old = api.log_in()["refresh_token"]
    lost = api.refresh(old, key="once").json()

    again = after.refresh(old, key="once").json()

    first, second = (jwt.get_unverified_claims(each["refresh_token"]) for each in (lost, again))
    assert first == second
    assert after.refresh(again["refresh_token"]).status_code == 200


def test_replicas_change_in_turn_when_each_knows_both_keys(start_service: MakeService, after: Api) -> None:
    before = start_service(secret_key_fallbacks=(NEW_KEY,))
    token = before.log_in()["refresh_token"]

    for each in (after, before, after, before):
        response = each.refresh(token)
        assert response.status_code == 200
        token = response.json()["refresh_token"]


def test_without_the_former_key_its_tokens_are_refused(api: Api, start_service: MakeService) -> None:
    pair = api.log_in()
    forgetful = start_service(secret_key=NEW_KEY)

    assert error_of(forgetful.refresh(pair["refresh_token"])) == (401, "invalid_refresh_token")
    assert error_of(forgetful.me(pair["access_token"])) == (401, "invalid_token")


def test_siblings_verify_with_their_own_secret_and_not_with_ours(apart: Api) -> None:
    pair = apart.log_in()

    assert signed_with(pair["access_token"], SHARED)
    assert not signed_with(pair["access_token"], SECRET_KEY)
    assert apart.me(pair["access_token"]).status_code == 200


def test_what_was_signed_with_the_secret_key_is_no_access_token_where_siblings_have_their_own(
    apart: Api,
) -> None:
    user_id = str(apart.me(apart.log_in()["access_token"]).json()["id"])

    assert apart.me(sign(access_claims(sub=user_id), SHARED)).status_code == 200
    assert error_of(apart.me(sign(access_claims(sub=user_id), SECRET_KEY))) == (401, "invalid_token")


def test_nobody_makes_a_refresh_token_of_the_secret_that_siblings_have(apart: Api) -> None:
    session = jwt.get_unverified_claims(apart.log_in()["refresh_token"])
    claims = refresh_claims(**session)

    for key in (SHARED, derive(SHARED, b"kanban-auth refresh token v1")):
        forged = sign(claims, key, typ="rt+jwt")
        assert error_of(apart.refresh(forged)) == (401, "invalid_refresh_token")


def test_where_an_audience_is_set_a_token_says_for_whom_and_by_which_client(
    start_service: MakeService,
) -> None:
    api = start_service(jwt_audience="boards")
    token = api.log_in()["access_token"]

    claims = jwt.get_unverified_claims(token)

    assert (claims["aud"], claims["client_id"]) == ("boards", "kanban")
    assert api.me(token).status_code == 200
