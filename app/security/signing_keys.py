"""Key pairs that sign access tokens: made here, stored encrypted, named by their thumbprint (RFC 7638)."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from app.security import jws

Algorithm = Literal["ES256", "RS256"]
ENCRYPTION_LABEL: Final = b"kanban-auth signing key encryption v1"
_RSA_BITS: Final = 2048
_NONCE_BYTES: Final = 12
# RFC 7638 §3.2: the required members, in lexicographic order.
_THUMBPRINT_MEMBERS: Final = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}


class Undecryptable(Exception):
    """None of our secrets fits, or the row was changed."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`private` is PKCS #8 in DER; `public_jwk` has `kid`, `alg` and `use` as well."""

    kid: str
    algorithm: Algorithm
    public_jwk: dict[str, Any]
    private: bytes = field(repr=False)


def generate(algorithm: Algorithm) -> KeyPair:
    """An RSA key takes a quarter of a second."""
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    )
    public = jws.public_jwk(key, algorithm)
    kid = thumbprint(public)
    if kid.startswith("-"):
        return generate(algorithm)  # to commands it would be an option
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(kid, algorithm, public | {"kid": kid, "use": "sig", "alg": algorithm}, private)


def thumbprint(public_jwk: dict[str, Any]) -> str:
    members = {name: public_jwk[name] for name in _THUMBPRINT_MEMBERS[public_jwk["kty"]]}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return jws.to_base64url(hashlib.sha256(canonical).digest())


def encrypt(private: bytes, kid: str, secret: bytes) -> bytes:
    """AES-256-GCM, its nonce in front. The kid is authenticated, so that rows cannot be exchanged."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, private, kid.encode())


def decrypt(encrypted: bytes, kid: str, secret: bytes) -> bytes:
    """Raises Undecryptable."""
    try:
        return AESGCM(secret).decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], kid.encode())
    except (InvalidTag, ValueError):
        raise Undecryptable from None


def signing_key(private: bytes, algorithm: str, kid: str) -> jws.Key:
    """To validate an RSA key takes 75 ms, and is not needed: its encryption authenticates it."""
    key = load_der_private_key(private, password=None, unsafe_skip_rsa_key_validation=True)
    return jws.private_key(key, algorithm, kid)
