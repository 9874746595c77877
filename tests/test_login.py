from typing import Any
from urllib.parse import urlencode

import bcrypt
import pytest
from jose import jwt
from sqlalchemy import Engine, text

from app.security.passwords import PasswordHasher
from tests.support import PASSWORD, SECRET_KEY, Api, MakeService, at_once, error_of, new_email
from tests.support.accounts import disable, get_hash, set_hash


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.get_unverified_claims(token)
    return claims


def test_a_login_answers_with_a_token_pair_that_no_cache_keeps(api: Api) -> None:
    response = api.token(api.new_user())

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    pair = response.json()
    assert set(pair) == {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"}
    assert (pair["token_type"], pair["expires_in"]) == ("bearer", 900)
    assert 7 * 86400 - 60 < pair["refresh_expires_in"] <= 7 * 86400  # from when it is signed


def test_the_access_token_says_who_and_nothing_else(api: Api) -> None:
    pair = api.log_in()
    me = api.me(pair["access_token"]).json()

    claims = claims_of(pair["access_token"])

    assert jwt.get_unverified_header(pair["access_token"]) == {"alg": "HS256", "typ": "at+jwt"}
    assert set(claims) == {"iss", "sub", "role", "sid", "jti", "iat", "exp"}
    assert (claims["iss"], claims["sub"], claims["role"]) == ("kanban-auth", str(me["id"]), "user")
    assert claims["exp"] - claims["iat"] == 900
    assert type(claims["iat"]) is int


def test_a_sibling_verifies_an_access_token_with_the_secret_alone(api: Api) -> None:
    access_token = api.log_in()["access_token"]

    claims = jwt.decode(access_token, SECRET_KEY, algorithms=["HS256"])

    assert claims["role"] == "user"


def test_an_audience_is_named_when_one_is_set(start_service: MakeService) -> None:
    api = start_service(jwt_audience="boards")

    pair = api.log_in()

    assert claims_of(pair["access_token"])["aud"] == "boards"
    assert api.me(pair["access_token"]).status_code == 200


def test_the_email_is_compared_without_regard_to_case(api: Api) -> None:
    email = api.new_user()

    assert api.token(f" {email.upper()} ").status_code == 200


def test_a_password_is_the_same_however_its_accents_are_typed(api: Api) -> None:
    email = new_email()
    api.register(email, "caf\u00e9 caf\u00e9")

    assert api.token(email, "cafe\u0301 cafe\u0301").status_code == 200


def test_a_password_is_never_trimmed(api: Api) -> None:
    email = new_email()
    api.register(email, "  spaces around  ")

    assert api.token(email, "  spaces around  ").status_code == 200
    assert error_of(api.token(email, "spaces around")) == (401, "invalid_credentials")


@pytest.mark.parametrize("length", [72, 73, 500])
def test_no_character_of_a_long_password_is_cut_off(api: Api, length: int) -> None:
    email = new_email()
    api.register(email, "x" * length)

    assert error_of(api.token(email, "x" * length + "y")) == (401, "invalid_credentials")
    assert error_of(api.token(email, "x" * (length - 1))) == (401, "invalid_credentials")
    assert api.token(email, "x" * length).status_code == 200


def test_every_refused_login_looks_the_same(api: Api, engine: Engine) -> None:
    known, disabled = api.new_user(), api.new_user()
    disable(engine, disabled)

    refusals = [
        api.token(known, "another password"),
        api.token("nobody@example.com"),
        api.token("not an email"),
        api.token(disabled),
    ]

    assert {error_of(refusal) for refusal in refusals} == {(401, "invalid_credentials")}
    assert {refusal.text for refusal in refusals} == {
        (
            '{"detail":"Incorrect email or password","code":"invalid_credentials",'
            '"error":"invalid_grant","error_description":"Incorrect email or password"}'
        )
    }
    assert {refusal.headers["www-authenticate"] for refusal in refusals} == {"Bearer"}


def test_every_refused_login_costs_one_hash(api: Api, engine: Engine) -> None:
    known, disabled = api.new_user(), api.new_user()
    disable(engine, disabled)

    for username in (known, "nobody@example.com", "not an email", disabled):
        before = api.metric("app_password_hash_seconds_count")
        api.token(username, "another password")
        assert api.metric("app_password_hash_seconds_count") == before + 1


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"username": "ada@example.com"},
        {"password": PASSWORD},
        {"username": "", "password": ""},
        {"username": "a@example.com", "password": "x", "grant_type": "client"},
        {"username": "a\x00@example.com", "password": PASSWORD},
        {"username": "a@example.com", "password": "correct\x00horse"},
    ],
)
def test_an_unusable_form_is_refused(api: Api, form: dict[str, str]) -> None:
    assert error_of(api.http.post("/api/v1/token", data=form)) == (400, "validation_error")


def test_a_login_in_json_is_refused(api: Api) -> None:
    response = api.http.post("/api/v1/token", json={"username": api.new_user(), "password": PASSWORD})

    assert error_of(response) == (400, "validation_error")


def test_a_multipart_login_will_do(api: Api) -> None:
    fields = {"username": (None, api.new_user()), "password": (None, PASSWORD)}

    assert api.http.post("/api/v1/token", files=fields).status_code == 200


@pytest.mark.parametrize("prefix", [b"2b", b"2a", b"2y"])
def test_a_hash_of_an_older_table_is_replaced_at_the_next_login(
    api: Api, engine: Engine, prefix: bytes
) -> None:
    email = api.new_user()
    legacy = bcrypt.hashpw(b"an older password", bcrypt.gensalt(4)).replace(b"2b", prefix, 1)
    set_hash(engine, email, legacy.decode())

    assert api.token(email, "an older password").status_code == 200

    assert get_hash(engine, email).startswith("$bcrypt-sha256$")
    assert api.token(email, "an older password").status_code == 200


def test_a_hash_with_fewer_rounds_is_replaced_at_the_next_login(
    start_service: MakeService, engine: Engine
) -> None:
    api = start_service(bcrypt_rounds=5)
    email = api.new_user()
    set_hash(engine, email, PasswordHasher(4).hash(PASSWORD))

    api.log_in(email)

    assert ",r=5$" in get_hash(engine, email)


def test_a_hash_with_more_rounds_is_kept(api: Api, engine: Engine) -> None:
    email = api.new_user()
    strong = PasswordHasher(6).hash(PASSWORD)
    set_hash(engine, email, strong)

    api.log_in(email)

    assert get_hash(engine, email) == strong


def test_parallel_logins_over_an_older_hash_all_succeed(api: Api, engine: Engine) -> None:
    email = api.new_user()
    set_hash(engine, email, bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode())

    responses = at_once(10, lambda _: api.token(email))

    assert {response.status_code for response in responses} == {200}


def test_a_hash_that_nobody_knows_lets_nobody_in(api: Api, engine: Engine) -> None:
    email = api.new_user()
    for broken in ("", "!", "$2b$04$broken", "$argon2id$v=19$m=1"):
        set_hash(engine, email, broken)
        assert error_of(api.token(email)) == (401, "invalid_credentials")


def test_a_login_is_one_row_that_tells_where_from(api: Api, engine: Engine) -> None:
    pair = api.log_in()

    with engine.connect() as connection:
        query = text("SELECT * FROM refresh_tokens WHERE id = :sid")
        row = connection.execute(query, {"sid": claims_of(pair["access_token"])["sid"]}).one()
    assert str(row.token_id) == claims_of(pair["refresh_token"])["jti"]
    assert row.ip_address == "127.0.0.1"
    assert row.user_agent.startswith("python-httpx/")
    assert pair["refresh_token"] not in str(row)


def test_whatever_a_proxy_calls_the_client_a_login_succeeds(api: Api) -> None:
    form = {"username": api.new_user(), "password": PASSWORD}
    for address in ("fe80::1%eth0", "unknown", "_hidden", "2001:db8::1", "1.2.3.4, 5.6.7.8"):
        headers = {"X-Forwarded-For": address, "User-Agent": "x" * 5000}
        assert api.http.post("/api/v1/token", data=form, headers=headers).status_code == 200


URL_ENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def fields_of(username: bytes, password: bytes) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return part % (b"username", username) + part % (b"password", password) + b"--x--"


def test_a_form_is_utf_8_whether_its_bytes_are_escaped_or_not(api: Api) -> None:
    email, password = new_email(), "pässwörter 1+1=100%ff 🔑"
    assert api.register(email, password).status_code == 201
    forms = [
        (URL_ENCODED, urlencode({"username": email, "password": password}).encode()),
        (URL_ENCODED, f"username={email}&password=pässwörter+1%2b1=100%25ff 🔑".encode()),
        ({"Content-Type": "Application/X-WWW-Form-urlencoded;charset=UTF-8"},
         f"password=pässwörter+1%2B1%3D100%25ff+🔑&username={email}".encode()),
        (MULTIPART, fields_of(email.encode(), password.encode())),
    ]  # fmt: skip

    answers = [api.http.post("/api/v1/token", content=form, headers=headers) for headers, form in forms]

    assert [answer.status_code for answer in answers] == [200] * 4


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        (URL_ENCODED, b"username=a@example.com&password=%ff%ff%ff%ff%ff%ff%ff%ff"),
        (URL_ENCODED, b"username=a@example.com&password=\xff\xff\xff\xff\xff\xff\xff\xff"),
        (URL_ENCODED, b"username=a@example.com&password=long+enough%c3&x=%a4"),
        (URL_ENCODED, b"username=%e4@example.com&password=long+enough"),
        (MULTIPART, fields_of(b"a@example.com", b"\xff" * 8)),
    ],
)
def test_a_form_that_is_not_utf_8_is_refused(api: Api, headers: dict[str, str], form: bytes) -> None:
    """What is replaced by U+FFFD would be one password for many."""
    response = api.http.post("/api/v1/token", content=form, headers=headers)

    assert error_of(response) == (400, "validation_error")
