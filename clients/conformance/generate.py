"""Writes cases.json: tokens at a moment of their own, and what every verifier must say to each.

python clients/conformance/generate.py
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import ECAlgorithm, RSAAlgorithm, get_default_algorithms

NOW: Final = 1_800_000_000
ISSUER: Final = "https://auth.example.com"
AUDIENCE: Final = "kanban"
SECRET: Final = "shared with every sibling, 32 bytes at least"  # noqa: S105 — of no deployment
SESSION: Final = "0f7b9a1c-58c9-4b60-8ab5-31b4a6f0a111"
ALPHABET: Final = f"{ascii_uppercase}{ascii_lowercase}{digits}-_"
ALGORITHMS: Final = get_default_algorithms()

CURVE: Final = ec.generate_private_key(ec.SECP256R1())
CURVE_384: Final = ec.generate_private_key(ec.SECP384R1())
OF_OTHERS: Final = ec.generate_private_key(ec.SECP256R1())
RSA_KEY: Final = rsa.generate_private_key(65537, 2048)
SHORT_RSA_KEY: Final = rsa.generate_private_key(65537, 1024)  # noqa: S505 — has to be refused

HEADER: Final = {"alg": "ES256", "typ": "at+jwt", "kid": "curve"}
CLAIMS: Final = {
    "iss": ISSUER, "aud": AUDIENCE, "client_id": AUDIENCE, "sub": "42", "role": "admin", "sid": SESSION,
    "jti": "a-token", "iat": NOW - 60, "exp": NOW + 840,
}  # fmt: skip
ACCEPTED: Final = {
    "user_id": 42, "role": "admin", "session_id": SESSION, "token_id": "a-token",
    "issued_at": NOW - 60, "expires_at": NOW + 840,
}  # fmt: skip


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(value: object) -> str:
    return encode(json.dumps(value).encode())


def sign(claims: object = CLAIMS, key: Any = CURVE, **header: Any) -> str:
    """A header given as None is left out. Bytes as a key are HMAC's; no key is no signature."""
    fields = {name: value for name, value in (HEADER | header).items() if value is not None}
    signed = f"{segment(fields)}.{segment(claims)}".encode()
    if isinstance(key, bytes):
        signature = hmac.digest(key, signed, hashlib.sha256)
    elif key is None:
        signature = b""
    else:
        algorithm = {521: "ES512", 384: "ES384", 256: "ES256"}.get(key.key_size, "RS256")
        signature = ALGORITHMS[algorithm].sign(signed, key)
    return f"{signed.decode()}.{encode(signature)}"


def claims(**changed: Any) -> dict[str, Any]:
    """A claim given as None is left out."""
    return {name: value for name, value in (CLAIMS | changed).items() if value is not None}


def sign_shared(claims: object = CLAIMS, secret: bytes = SECRET.encode(), **header: Any) -> str:
    return sign(claims, secret, **({"alg": "HS256", "kid": None} | header))


def jwk(key: Any, kid: str, **fields: Any) -> dict[str, Any]:
    kind = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return kind.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} | fields


def jwks() -> dict[str, Any]:
    return {
        "keys": [
            jwk(CURVE, "curve", alg="ES256"),
            jwk(RSA_KEY, "rsa", alg="RS256"),
            jwk(CURVE_384, "curve-384"),
            jwk(SHORT_RSA_KEY, "short-rsa", alg="RS256"),
            jwk(CURVE, "for-encryption", use="enc"),
            jwk(CURVE, "of-another-algorithm", alg="ES384"),
            {
                "kty": "oct",
                "kid": "symmetric",
                "alg": "HS256",
                "k": encode(b"published, so no secret at all.."),
            },
            {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
            {"kty": {}, "kid": "odd"},
            {"kid": 7},
            "no key",
        ]
    }


def pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return encoded


def accepted() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name to token, and how its claims differ from ACCEPTED."""
    return {
        "ES256": (sign(), {}),
        "RS256": (sign(key=RSA_KEY, alg="RS256", kid="rsa"), {}),
        "HS256 with the shared secret": (sign_shared(), {}),
        "typ application/at+jwt": (sign(typ="application/at+jwt"), {}),
        "typ in capitals": (sign(typ="AT+JWT"), {}),
        "a list of audiences": (sign(claims(aud=["others", AUDIENCE])), {}),
        "no session": (sign(claims(sid=None)), {"session_id": None}),
        "session null": (sign(CLAIMS | {"sid": None}), {"session_id": None}),
        "no role": (sign(claims(role=None)), {"role": ""}),
        "expired, within the leeway": (sign(claims(exp=NOW - 4)), {"expires_at": NOW - 4}),
        "issued by a clock that is ahead": (sign(claims(iat=NOW + 60)), {"issued_at": NOW + 60}),
        "not valid yet, within the leeway": (sign(claims(nbf=NOW + 4)), {}),
        "a claim that nobody knows": (sign(claims(theme="dark")), {}),
    }


def expired() -> dict[str, str]:
    return {
        "expired": sign(claims(exp=NOW - 60)),
        "expired, just past the leeway": sign(claims(exp=NOW - 5)),
        "expired, with the shared secret": sign_shared(claims(exp=NOW - 60)),
    }


def invalid() -> dict[str, str]:
    return {**of_other_algorithms(), **of_other_keys(), **of_other_claims(), **malformed()}


def of_other_algorithms() -> dict[str, str]:
    return {
        "alg none": sign(key=None, alg="none"),
        "alg none without kid": sign(key=None, alg="none", kid=None),
        "alg nOnE": sign(key=None, alg="nOnE"),
        "alg none, signed": sign(alg="none"),
        "no alg": sign(alg=None),
        "alg in small letters": sign(alg="es256"),
        "HS256 with the public key as secret": sign(key=pem(CURVE), alg="HS256"),
        "HS256 with the public key as secret, without kid": sign_shared(secret=pem(CURVE)),
        "HS256 with the public JWK as secret": sign(key=json.dumps(jwks()["keys"][0]).encode(), alg="HS256"),
        "HS256 with an empty secret": sign_shared(secret=b""),
        "HS256 with the shared secret and a kid": sign_shared(kid="curve"),
        "HS256 with a published symmetric key": sign_shared(
            secret=b"published, so no secret at all..", kid="symmetric"
        ),
        "HS384": sign_shared(alg="HS384"),
        "RS256 says the header, the kid is of a curve": sign(alg="RS256"),
        "ES256 says the header, the kid is of RSA": sign(kid="rsa"),
        "signed with RSA, the kid is of a curve": sign(key=RSA_KEY, alg="RS256"),
        "ES384": sign(key=CURVE_384, alg="ES384", kid="curve-384"),
        "ES256 with a key of P-384": sign(key=CURVE_384, kid="curve-384"),
        "RSA with 1024 bits": sign(key=SHORT_RSA_KEY, alg="RS256", kid="short-rsa"),
    }


def of_other_keys() -> dict[str, str]:
    own = jwk(OF_OTHERS, "curve", alg="ES256")
    return {
        "a key of another deployment": sign(key=OF_OTHERS),
        "an unknown kid": sign(key=OF_OTHERS, kid="unknown"),
        "no kid": sign(kid=None),
        "an empty kid": sign(kid=""),
        "a kid that is a number": sign(kid=7),
        "a kid that is a list": sign(kid=["curve"]),
        "a kid that is a path": sign(kid="../../../../dev/null"),
        "a kid that is SQL": sign(kid="' OR 1=1 --"),
        "a kid that is a URL": sign(kid="https://evil.example/key"),
        "a kid of 10 kB": sign(kid="k" * 10_000),
        "a kid of the language": sign(kid="__proto__"),
        "a key in the header": sign(key=OF_OTHERS, kid=None, jwk=own),
        "a key in the header beside a kid": sign(key=OF_OTHERS, jwk=own),
        "an address of keys in the header": sign(key=OF_OTHERS, kid=None, jku="https://evil.example/jwks"),
        "a key for encryption": sign(kid="for-encryption"),
        "a key of another algorithm": sign(kid="of-another-algorithm"),
        "a key that cannot be read": sign(kid="broken"),
        "another shared secret": sign_shared(secret=b"the secret of another deployment"),
    }


def of_other_claims() -> dict[str, str]:
    wrong: dict[str, dict[str, Any]] = {
        "another issuer": {"iss": "https://evil.example"},
        "another issuer, almost": {"iss": f"{ISSUER}/"},
        "no issuer": {"iss": None},
        "a list of issuers": {"iss": [ISSUER]},
        "another audience": {"aud": "others"},
        "a list of other audiences": {"aud": ["others"]},
        "no audience": {"aud": None},
        "no expiry": {"exp": None},
        "expiry as text": {"exp": str(NOW + 840)},
        "expiry as a fraction": {"exp": NOW + 840.5},
        "expiry true": {"exp": True},
        "no time of issue": {"iat": None},
        "time of issue as text": {"iat": str(NOW)},
        "not valid yet": {"nbf": NOW + 6},
        "not valid until text": {"nbf": "tomorrow"},
        "no subject": {"sub": None},
        "subject as a number": {"sub": 42},
        "subject as a name": {"sub": "ada"},
        "subject zero": {"sub": "0"},
        "subject with a zero before it": {"sub": "042"},
        "subject below zero": {"sub": "-1"},
        "subject with a line break": {"sub": "42\n"},
        "subject in other digits": {"sub": "４２"},
        "subject too long": {"sub": "1" * 19},
        "no token id": {"jti": None},
        "an empty token id": {"jti": ""},
        "token id as a number": {"jti": 7},
        "a session that is no uuid": {"sid": "mine"},
        "a session that is a number": {"sid": 7},
    }
    return {name: sign(claims(**changed)) for name, changed in wrong.items()}


def malformed() -> dict[str, str]:
    good = sign()
    header, payload, signature = good.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other_last = ALPHABET[ALPHABET.index(signature[-1]) ^ 1]
    der = CURVE.sign(f"{header}.{payload}".encode(), ec.ECDSA(SHA256()))
    return {
        "no typ": sign(typ=None),
        "typ JWT": sign(typ="JWT"),
        "a refresh token": sign(typ="rt+jwt"),
        "a refresh token with the shared secret": sign_shared(typ="rt+jwt"),
        "typ as a number": sign(typ=7),
        "an extension": sign(crit=["exp"]),
        "an extension that some libraries know": sign(crit=["b64"], b64=True),
        "nothing": "",
        "text": "not a token",
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts": ".".join([header, "", payload, "", signature]),
        "no signature": f"{header}.{payload}.",
        "a signature of zeros": f"{header}.{payload}.{encode(bytes(64))}",
        "half a signature": f"{header}.{payload}.{encode(raw[:32])}",
        "a signature in DER": f"{header}.{payload}.{encode(der)}",
        "a signature with another spelling": f"{good[:-1]}{other_last}",
        "a signature with a line break": f"{good}\n",
        "a signature with padding": f"{good}==",
        "another payload": f"{header}.{segment(CLAIMS | {'sub': '1'})}.{signature}",
        "another header": f"{segment(HEADER | {'x': 1})}.{payload}.{signature}",
        "a payload that is a list": sign([1]),
        "a payload that is text": sign("text"),
        "a payload that is null": sign(None),
        "a header that is a list": f"{segment([1])}.{payload}.{signature}",
        "a header that is no JSON": f"{encode(b'{')}.{payload}.{signature}",
        "a header of many brackets": f"{encode(b'[' * 4000)}.{payload}.{signature}",
        "characters beyond ASCII": f"{good[:-2]}é€",
        "more than 8 KiB": sign(claims(theme="dark" * 2100)),
    }


def main() -> None:
    cases: list[dict[str, Any]] = [
        {"name": name, "token": token, "claims": ACCEPTED | changed}
        for name, (token, changed) in accepted().items()
    ]
    cases += [{"name": name, "token": token, "code": "token_expired"} for name, token in expired().items()]
    cases += [{"name": name, "token": token, "code": "invalid_token"} for name, token in invalid().items()]
    without: list[dict[str, Any]] = [
        {"name": "no audience wanted, none given", "token": sign(claims(aud=None)), "claims": ACCEPTED},
        {"name": "no audience wanted, one given", "token": sign(), "code": "invalid_token"},
        {"name": "no secret shared", "token": sign_shared(claims(aud=None)), "code": "invalid_token"},
        {
            "name": "no secret, an empty one",
            "token": sign_shared(claims(aud=None), b""),
            "code": "invalid_token",
        },
    ]
    document = {
        "now": NOW, "issuer": ISSUER, "audience": AUDIENCE, "shared_secret": SECRET, "jwks": jwks(),
        "cases": cases, "cases_without_audience_and_secret": without,
    }  # fmt: skip
    target = Path(__file__).with_name("cases.json")
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
