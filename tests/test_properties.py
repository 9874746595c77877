"""What holds for every input."""

import json
import unicodedata

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.security.emails import normalize_email
from app.security.passwords import PasswordHasher, normalize_password
from tests.support import PASSWORD, Api

relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
anything = st.text(max_size=120)
JSON = {"Content-Type": "application/json"}


def register(api: Api, email: str, password: str) -> int:
    body = json.dumps({"email": email, "password": password})
    response = api.http.post("/api/v1/users/", content=body, headers=JSON)
    if response.status_code == 400:
        assert all(set(problem) == {"loc", "msg", "type"} for problem in response.json()["detail"])
    return response.status_code


@relaxed
@given(anything)
def test_any_email_is_registered_or_refused(api: Api, email: str) -> None:
    assert register(api, email, PASSWORD) in (201, 400, 409)


@relaxed
@given(st.emails())
def test_an_ordinary_email_logs_in_however_it_is_spelled(api: Api, email: str) -> None:
    status = register(api, email, PASSWORD)

    assert status in (201, 400, 409)
    if status != 400:
        assert api.token(email.upper()).status_code == 200


@relaxed
@given(st.text(min_size=8, max_size=100))
def test_a_password_that_was_accepted_logs_in(api: Api, password: str) -> None:
    email = f"{abs(hash(password))}@example.com"

    if register(api, email, password) == 201:
        assert api.token(email, password).status_code == 200
        assert api.token(email, unicodedata.normalize("NFD", password)).status_code == 200


@relaxed
@given(anything, anything)
def test_any_login_is_answered(api: Api, username: str, password: str) -> None:
    form = {"username": username.encode("utf-8", "replace"), "password": password.encode("utf-8", "replace")}
    response = api.http.post("/api/v1/token", data=form)

    assert response.status_code in (200, 400, 401)


@relaxed
@given(st.emails() | st.from_regex(r"[\w.]{1,20}@[\w-]{1,20}\.[a-zA-Z]{2,6}", fullmatch=True))
def test_a_normalized_email_is_its_own_normal_form(email: str) -> None:
    try:
        once = normalize_email(email)
    except ValueError:
        return

    assert normalize_email(once) == once
    assert normalize_email(f" {once.upper()}\t") in (once, normalize_email(once.upper()))


@relaxed
@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_two_passwords_never_share_a_hash(one: str, other: str) -> None:
    scheme = PasswordHasher(4)
    one, other = normalize_password(one), normalize_password(other)
    if "\x00" in one + other:
        return

    assert scheme.verify(other, scheme.hash(one)) is (one == other)
