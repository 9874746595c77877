"""Tokens that are not ours, not of this kind, not of this time."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jose import jws, jwt
from jose.exceptions import JWTError
from sqlalchemy import Engine, text

from app.security.keys import derive
from tests.support import SECRET_KEY, Api, MakeService, MovableClock, bearer, error_of

NOW = int(datetime.now(UTC).timestamp())
DAY = 86400


REFRESH_KEY = derive(SECRET_KEY, b"kanban-auth refresh token v1")


def access_claims(**changes: Any) -> dict[str, Any]:
    claims = {
        "iss": "kanban-auth",
        "sub": "1",
        "role": "admin",
        "jti": str(uuid4()),
        "iat": NOW,
        "exp": NOW + 2 * DAY,  # longer than any run of the tests
    }
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def refresh_claims(**changes: Any) -> dict[str, Any]:
    return access_claims(role=..., **({"sid": str(uuid4())} | changes))


def sign(
    claims: dict[str, Any], key: str | bytes = SECRET_KEY, algorithm: str = "HS256", **header: Any
) -> str:
    return jwt.encode(claims, key, algorithm, headers={"typ": "at+jwt"} | header)


def unsigned(claims: dict[str, Any], algorithm: str) -> str:
    def encode(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{encode({'typ': 'at+jwt', 'alg': algorithm})}.{encode(claims)}."


def another_character(text: str, position: int) -> str:
    changed = "A" if text[position] != "A" else "B"
    return text[:position] + changed + text[position + 1 :] if position != -1 else text[:-1] + changed


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
GOOD = sign(access_claims())
FORGERIES = {
    "one part": "token",
    "two parts": "a.b",
    "four parts": GOOD + ".x",
    "not base64": "!!!.???.***",
    "not ascii": "é.é.é",
    "alg none": unsigned(access_claims(), "none"),
    "alg None": unsigned(access_claims(), "None"),
    "alg HS256 without a signature": unsigned(access_claims(), "HS256"),
    "another HMAC": sign(access_claims(), algorithm="HS512"),
    "RS256": sign(access_claims(), RSA_KEY.decode(), "RS256"),
    "foreign key": sign(access_claims(), "another key, as long as the one that is right"),
    "empty key": sign(access_claims(), ""),
    "typ JWT": sign(access_claims(), typ="JWT"),
    "typ rt+jwt": sign(access_claims(), typ="rt+jwt"),
    "typ application/rt+jwt": sign(access_claims(), typ="application/rt+jwt"),
    "typ application/application/at+jwt": sign(access_claims(), typ="application/application/at+jwt"),
    "typ as a list": sign(access_claims(), typ=["at+jwt"]),
    "no typ": sign(access_claims(), typ=None),
    "critical extension": sign(access_claims(), crit=["b64"], b64=False),
    "kid of a file": sign(access_claims(), "", kid="/dev/null"),
    "jwk in the header": sign(access_claims(), "x" * 32, jwk={"kty": "oct", "k": "eHh4"}),
    "wrong iss": sign(access_claims(iss="somebody-else")),
    "no iss": sign(access_claims(iss=...)),
    "no exp": sign(access_claims(exp=...)),
    "no iat": sign(access_claims(iat=...)),
    "no sub": sign(access_claims(sub=...)),
    "no jti": sign(access_claims(jti=...)),
    "unexpected aud": sign(access_claims(aud="boards")),
    "not yet valid": sign(access_claims(nbf=NOW + DAY)),
    "exp as text": sign(access_claims(exp=str(NOW + DAY))),
    "exp as a fraction": sign(access_claims(exp=NOW + DAY + 0.5)),
    "exp true": sign(access_claims(exp=True)),
    "exp null": sign(access_claims(exp=None)),
    "sub as a number": sign(access_claims(sub=1)),
    "sub as text": sign(access_claims(sub="admin")),
    "sub negative": sign(access_claims(sub="-1")),
    "sub zero": sign(access_claims(sub="0")),
    "sub too large": sign(access_claims(sub="9" * 30)),
    "sub in other digits": sign(access_claims(sub="\N{ARABIC-INDIC DIGIT ONE}")),
    "jti empty": sign(access_claims(jti="")),
    "jti a number": sign(access_claims(jti=7)),
    "claims no object": jws.sign(b"[1]", SECRET_KEY, {"typ": "at+jwt"}, "HS256"),
    "first character of the signature changed": another_character(GOOD, GOOD.rindex(".") + 1),
    "last character changed": another_character(GOOD, -1),
    "claims changed": GOOD.replace(".", ".A", 1),
    "padded": GOOD + "=",
    "with a space inside": GOOD[:20] + " " + GOOD[20:],
}


@pytest.fixture(scope="module", params=["HS256", "ES256"])
def api(request: pytest.FixtureRequest, api: Api, start_lasting_service: MakeService) -> Api:
    """With ES256, siblings may still show tokens that they signed with the secret that they share."""
    if request.param == "HS256":
        return api
    return start_lasting_service(jwt_algorithm=request.param, jwt_secret=SECRET_KEY)


@pytest.fixture(scope="module", autouse=True)
def _user_one(api: Api, engine: Engine) -> None:
    """The forgeries speak of user 1, who exists: they fail for what is wrong with them, and nothing else."""
    api.new_user()
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO users (id, email, hashed_password, created_at) "
                "VALUES (1, 'one@example.com', '!', now()) ON CONFLICT DO NOTHING"
            )
        )
    assert api.me(GOOD).json()["id"] == 1


@pytest.mark.parametrize("typ", ["application/at+jwt", "AT+JWT", "Application/At+Jwt"])
def test_the_type_of_a_siblings_token_is_a_media_type(api: Api, typ: str) -> None:
    assert api.me(sign(access_claims(), typ=typ)).json()["id"] == 1


@pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES.keys())
def test_no_forgery_passes_as_an_access_token(api: Api, token: str) -> None:
    response = api.http.get("/api/v1/me", headers={b"Authorization": f"Bearer {token}".encode()})

    assert error_of(response) == (401, "invalid_token")
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES.keys())
def test_no_forgery_passes_as_a_refresh_token(api: Api, token: str) -> None:
    response = api.refresh(token)

    assert error_of(response) == (401, "invalid_refresh_token")
    assert response.json()["detail"] == "Invalid refresh token"


def test_every_change_of_the_last_character_of_a_token_is_noticed(api: Api) -> None:
    token = api.log_in()["access_token"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    for changed in (token[:-1] + character for character in alphabet if character != token[-1]):
        assert error_of(api.me(changed)) == (401, "invalid_token")


def test_a_refresh_token_is_no_access_token(api: Api) -> None:
    pair = api.log_in()

    assert error_of(api.me(pair["refresh_token"])) == (401, "invalid_token")
    assert error_of(api.log_out(pair["refresh_token"])) == (401, "invalid_token")


def test_an_access_token_is_no_refresh_token(api: Api) -> None:
    pair = api.log_in()

    assert error_of(api.refresh(pair["access_token"])) == (401, "invalid_refresh_token")


def test_no_verifier_with_the_secret_takes_a_refresh_token(api: Api) -> None:
    refresh_token = api.log_in()["refresh_token"]

    with pytest.raises(JWTError):
        jwt.decode(refresh_token, SECRET_KEY, algorithms=["HS256", "HS384", "HS512"])


def test_a_refresh_token_signed_with_the_secret_itself_is_refused(api: Api) -> None:
    token = sign(refresh_claims(), typ="rt+jwt")

    assert error_of(api.refresh(token)) == (401, "invalid_refresh_token")


@pytest.mark.parametrize("missing", ["iss", "exp", "iat", "sub", "jti", "sid"])
def test_a_refresh_token_of_ours_lacks_no_claim(api: Api, missing: str) -> None:
    token = sign(refresh_claims(**{missing: ...}), REFRESH_KEY, typ="rt+jwt")

    assert error_of(api.refresh(token)) == (401, "invalid_refresh_token")


def test_a_genuine_refresh_token_of_no_session_is_refused(api: Api) -> None:
    token = sign(refresh_claims(), REFRESH_KEY, typ="rt+jwt")

    assert error_of(api.refresh(token)) == (401, "refresh_token_reused")


def test_an_access_token_expires_after_fifteen_minutes(start_service: MakeService) -> None:
    clock = MovableClock()
    api = start_service(clock=clock)
    token = api.log_in()["access_token"]

    clock.move(seconds=899)
    assert api.me(token).status_code == 200
    clock.move(seconds=1)
    response = api.me(token)

    assert error_of(response) == (401, "token_expired")
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_an_expired_forgery_is_a_forgery(api: Api) -> None:
    token = sign(access_claims(exp=NOW - 1), "another key, as long as the one that is right")

    assert error_of(api.me(token)) == (401, "invalid_token")


@pytest.mark.parametrize("aud", [..., "other", ["other"], [], None, 7])
def test_where_an_audience_is_set_a_token_of_another_is_refused(start_service: MakeService, aud: Any) -> None:
    api = start_service(jwt_audience="boards")

    assert error_of(api.me(sign(access_claims(aud=aud)))) == (401, "invalid_token")


def test_the_algorithm_of_tokens_is_a_setting(start_service: MakeService) -> None:
    api = start_service(jwt_algorithm="HS512")
    token = api.log_in()["access_token"]

    assert jwt.get_unverified_header(token)["alg"] == "HS512"
    assert api.me(token).status_code == 200
    assert error_of(api.me(sign(access_claims(), algorithm="HS256"))) == (401, "invalid_token")


def test_a_secret_that_looks_like_a_key_set_is_a_secret(start_service: MakeService) -> None:
    api = start_service(secret_key='{"keys": [{"kty": "oct", "k": "QUFBQUFBQUE"}]}')

    token = api.log_in()["access_token"]

    assert api.me(token).status_code == 200
    assert error_of(api.me(sign(access_claims(), b"AAAAAAAA"))) == (401, "invalid_token")


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "token"])
def test_an_authorization_of_another_scheme_is_no_token(api: Api, header: str) -> None:
    response = api.http.get("/api/v1/me", headers={"Authorization": header})

    assert error_of(response) == (401, "not_authenticated")
    assert response.headers["www-authenticate"] == "Bearer"


def test_the_authorization_scheme_is_compared_without_regard_to_case(api: Api) -> None:
    token = api.log_in()["access_token"]

    assert api.http.get("/api/v1/me", headers={"Authorization": f"bearer {token}"}).status_code == 200


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300))
def test_no_text_at_all_is_a_refresh_token(api: Api, token: str) -> None:
    response = api.http.post(
        "/api/v1/refresh",
        content=json.dumps({"refresh_token": token}),
        headers={"Content-Type": "application/json"},
    )

    assert response.status_code in (400, 401)


def test_keys_and_secrets_are_not_printed(api: Api) -> None:
    assert SECRET_KEY not in repr(api.container.tokens)
    assert SECRET_KEY not in repr(api.container.settings)
    assert bearer("x") == {"Authorization": "Bearer x"}


def test_an_access_token_that_a_sibling_minted_is_good_when_it_has_what_it_must(api: Api) -> None:
    user_id = api.me(api.log_in()["access_token"]).json()["id"]
    token = sign(access_claims(sub=str(user_id), jti="abc-1", sid=..., role=...))

    assert api.me(token).json()["id"] == user_id
