"""Signing keys, as siblings see them and as the table has them."""

from typing import Any

from jose import jwt
from sqlalchemy import Engine, text

from app.security.jws import Key
from tests.support.api import Api

JWKS = "/.well-known/jwks.json"


def key_set(api: Api) -> dict[str, dict[str, Any]]:
    """By kid, what siblings fetch."""
    response = api.http.get(JWKS)
    assert response.status_code == 200, response.text
    return {each["kid"]: each for each in response.json()["keys"]}


def kid_of(token: str) -> str | None:
    kid: str | None = jwt.get_unverified_header(token).get("kid")
    return kid


def private_of(api: Api, kid: str) -> Key:
    """What nobody outside has."""
    api.operator.signing_keys.load()
    private = api.operator.signing_keys.snapshot.keys[kid].private
    assert private is not None
    return private.key


def rows(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT * FROM signing_keys ORDER BY signs_from, kid")))
