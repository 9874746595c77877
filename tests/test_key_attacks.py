"""Tokens that want another key than ours to be believed (RFC 8725)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jose.backends.cryptography_backend import CryptographyECKey

from app.cli.running import OPERATOR
from app.security.jws import Key, sign
from app.security.signing_keys import KeyPair, generate, signing_key
from tests.support import LIVE, Api, MakeDatabase, MakeService, MovableClock, error_of, eventually
from tests.support.keys import key_set, private_of
from tests.test_signing_keys import SHARED
from tests.test_tokens import access_claims

STRANGER = generate("ES256")


def encode(value: bytes | dict[str, Any]) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key_of(pair: KeyPair, kid: str | None = None) -> Key:
    return signing_key(pair.private, pair.algorithm, kid or pair.kid)


class Attacker:
    """Knows what everybody does, and, so that a token is wrong in one thing alone, also our private key."""

    def __init__(self, api: Api) -> None:
        self.ours = next(key for key in key_set(api).values() if key["alg"] == "ES256")
        self.rsa = next(key for key in key_set(api).values() if key["alg"] == "RS256")
        self.kid = self.ours["kid"]
        self.key = private_of(api, self.kid)
        user_id = api.me(api.log_in()["access_token"]).json()["id"]
        self.claims = access_claims(sub=str(user_id))

    def header(self, **changes: Any) -> dict[str, Any]:
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self.kid} | changes
        return {name: value for name, value in header.items() if value is not ...}

    def genuine(self, header: dict[str, Any] | bytes | None = None) -> str:
        """With a signature of ours, whatever the header says."""
        signed = f"{encode(header if header is not None else self.header())}.{encode(self.claims)}"
        return f"{signed}.{encode(self.key.sign(signed.encode()))}"

    def with_signature(self, change: Callable[[bytes], bytes]) -> str:
        signed = f"{encode(self.header())}.{encode(self.claims)}"
        return f"{signed}.{encode(change(self.key.sign(signed.encode())))}"

    def with_secret(self, secret: bytes, **header: Any) -> str:
        """HS256, with what everybody has as the secret; by hand, as libraries refuse it."""
        signed = f"{encode(self.header(alg='HS256', **header))}.{encode(self.claims)}"
        return f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    @property
    def pem(self) -> bytes:
        key = CryptographyECKey(self.ours, "ES256").prepared_key
        return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    @property
    def der(self) -> bytes:
        key = CryptographyECKey(self.ours, "ES256").prepared_key
        return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def as_der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def stranger(header: dict[str, Any]) -> Callable[[Attacker], str]:
    """Signed with a key of another deployment, under a header that recommends it."""

    def make(attacker: Attacker) -> str:
        signed = f"{encode(attacker.header(**header))}.{encode(attacker.claims)}"
        return f"{signed}.{encode(key_of(STRANGER).sign(signed.encode()))}"

    return make


ATTACKS: dict[str, Callable[[Attacker], str]] = {
    "HS256 with the public key as PEM": lambda a: a.with_secret(a.pem),
    "HS256 with the public key as PEM, without its last newline": lambda a: a.with_secret(a.pem.strip()),
    "HS256 with the public key as DER": lambda a: a.with_secret(a.der),
    "HS256 with the JWK as it is served": lambda a: a.with_secret(
        json.dumps(a.ours, separators=(",", ":")).encode()
    ),
    "HS256 with x of the JWK": lambda a: a.with_secret(a.ours["x"].encode()),
    "HS256 with the kid": lambda a: a.with_secret(a.kid.encode()),
    "HS256 with the public key as PEM, without kid": lambda a: a.with_secret(a.pem, kid=...),
    "HS256 with the shared secret and the kid of a key": lambda a: a.with_secret(SHARED.encode()),
    "alg none": lambda a: f"{encode(a.header(alg='none'))}.{encode(a.claims)}.",
    "alg none with a signature of ours": lambda a: a.genuine(a.header(alg="none")),
    "another algorithm than the key's": lambda a: a.genuine(a.header(alg="RS256")),
    "the algorithm in lower case": lambda a: a.genuine(a.header(alg="es256")),
    "a longer hash": lambda a: a.genuine(a.header(alg="ES512")),
    "no alg": lambda a: a.genuine(a.header(alg=...)),
    "the kid of a key of another algorithm": lambda a: a.genuine(a.header(kid=a.rsa["kid"])),
    "the same, with that algorithm": lambda a: a.genuine(a.header(kid=a.rsa["kid"], alg="RS256")),
    "no kid": lambda a: a.genuine(a.header(kid=...)),
    "kid null": lambda a: a.genuine(a.header(kid=None)),
    "kid a number": lambda a: a.genuine(a.header(kid=1)),
    "kid a list": lambda a: a.genuine(a.header(kid=[a.kid])),
    "kid an object": lambda a: a.genuine(a.header(kid={"kid": a.kid})),
    "kid empty": lambda a: a.genuine(a.header(kid="")),
    "kid a path": lambda a: a.genuine(a.header(kid="../../../../dev/null")),
    "kid SQL": lambda a: a.genuine(a.header(kid=f"' OR kid = '{a.kid}' --")),
    "kid a URL": lambda a: a.genuine(a.header(kid="https://127.0.0.1:1/key.pem")),
    "kid of 10 kB": lambda a: a.genuine(a.header(kid="k" * 10_000)),
    "kid with NUL": lambda a: a.genuine(a.header(kid=f"{a.kid}\x00")),
    "kid in another case": lambda a: a.genuine(a.header(kid=a.kid.swapcase())),
    "kid with a space": lambda a: a.genuine(a.header(kid=f"{a.kid} ")),
    "a key of another deployment": stranger({"kid": STRANGER.kid}),
    "a key of another deployment under our kid": stranger({}),
    "its jwk in the header": stranger({"kid": ..., "jwk": STRANGER.public_jwk}),
    "its jwk beside our kid": stranger({"jwk": STRANGER.public_jwk}),
    "its address in jku": stranger({"jku": "https://127.0.0.1:1/jwks.json"}),
    "its address in x5u": stranger({"x5u": "https://127.0.0.1:1/chain.pem"}),
    "its chain in x5c": stranger({"x5c": ["MIIB"]}),
    "a critical extension": lambda a: a.genuine(a.header(crit=["exp"])),
    "an empty list of critical extensions": lambda a: a.genuine(a.header(crit=[])),
    "a signature as DER": lambda a: a.with_signature(as_der),
    "r and s zero": lambda a: a.with_signature(lambda _: bytes(64)),
    "r zero": lambda a: a.with_signature(lambda raw: bytes(32) + raw[32:]),
    "s zero": lambda a: a.with_signature(lambda raw: raw[:32] + bytes(32)),
    "r and s the largest": lambda a: a.with_signature(lambda _: b"\xff" * 64),
    "r and s exchanged": lambda a: a.with_signature(lambda raw: raw[32:] + raw[:32]),
    "a signature with a byte more": lambda a: a.with_signature(lambda raw: raw + b"\x00"),
    "a signature with a byte less": lambda a: a.with_signature(lambda raw: raw[:-1]),
    "no signature": lambda a: a.with_signature(lambda _: b""),
    "alg twice": lambda a: a.genuine(
        f'{{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"{a.kid}"}}'.encode()
    ),
    "kid twice": lambda a: a.genuine(f'{{"alg":"ES256","typ":"at+jwt","kid":"x","kid":"{a.kid}"}}'.encode()),
    "typ twice": lambda a: a.genuine(
        f'{{"alg":"ES256","typ":"rt+jwt","typ":"at+jwt","kid":"{a.kid}"}}'.encode()
    ),
    "typ rt+jwt": lambda a: a.genuine(a.header(typ="rt+jwt")),
    "no typ": lambda a: a.genuine(a.header(typ=...)),
    "a header that is a list": lambda a: a.genuine(b"[]"),
    "a header that is nested without end": lambda a: a.genuine(b"[" * 700),
    "a header that is no UTF-8": lambda a: a.genuine(b'{"alg":"\xff"}'),
}


@pytest.fixture(scope="module")
def attacked(start_lasting_service: MakeService, make_database: MakeDatabase) -> Api:
    """It has a key of each algorithm, and accepts the shared secret as well."""
    url = make_database(migrated=True)
    api = start_lasting_service(database_url=url, jwt_algorithm="ES256", jwt_secret=SHARED)
    assert api.http.get(LIVE).status_code == 200
    api.operator.key_admin.prepare(OPERATOR, "RS256")
    return start_lasting_service(database_url=url, jwt_algorithm="ES256", jwt_secret=SHARED)


@pytest.fixture(scope="module")
def attacker(attacked: Api) -> Attacker:
    return Attacker(attacked)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_header_brings_or_chooses_another_key(
    attacked: Api, attacker: Attacker, attack: Callable[[Attacker], str]
) -> None:
    assert error_of(attacked.me(attack(attacker))) == (401, "invalid_token")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_attack_on_keys_makes_a_refresh_token(
    attacked: Api, attacker: Attacker, attack: Callable[[Attacker], str]
) -> None:
    assert error_of(attacked.refresh(attack(attacker))) == (401, "invalid_refresh_token")


def test_what_the_attacks_change_is_accepted_unchanged(attacked: Api, attacker: Attacker) -> None:
    assert attacked.me(attacker.genuine()).status_code == 200
    assert attacked.me(attacker.with_signature(lambda raw: raw)).status_code == 200
    assert attacked.me(attacker.with_secret(SHARED.encode(), kid=...)).status_code == 200


def test_a_refresh_token_signed_with_a_key_of_ours_is_none(attacked: Api, attacker: Attacker) -> None:
    claims = attacker.claims | {"sid": str(uuid4())}

    token = sign(claims, attacker.key, "rt+jwt")

    assert error_of(attacked.refresh(token)) == (401, "invalid_refresh_token")


def test_a_token_of_a_revoked_or_a_retired_key_is_to_be_refreshed_and_its_forgery_is_none(
    start_service: MakeService, fresh_database_url: str
) -> None:
    clock = MovableClock()
    settings = {"database_url": fresh_database_url, "jwt_algorithm": "ES256", "clock": clock}
    api = start_service(**settings, access_token_expire_minutes=60)
    pair = api.log_in()
    (kid,) = key_set(api)
    forged = sign(access_claims(), key_of(STRANGER, kid), "at+jwt")

    api.operator.key_admin.revoke(OPERATOR, kid, "a drill")
    clock.move(seconds=60)
    eventually(lambda: kid not in key_set(api))

    assert error_of(api.me(pair["access_token"])) == (401, "token_expired")
    assert error_of(api.me(forged)) == (401, "invalid_token")
    second = api.refresh(pair["refresh_token"]).json()
    assert api.me(second["access_token"]).status_code == 200
    api.operator.key_admin.rotate(OPERATOR, at_once=True)
    impatient = start_service(**settings, access_token_expire_minutes=1)
    clock.move(minutes=5)
    assert error_of(impatient.me(second["access_token"])) == (401, "token_expired")
