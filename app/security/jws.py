"""JSON Web Signatures in compact serialization (RFC 7515 §3.1), with one algorithm and `typ` per key."""

import base64
import json
from functools import lru_cache
from typing import Any

from jose import jwk
from jose.backends.base import Key

_encode = json.JSONEncoder(separators=(",", ":")).encode


def sign(payload: dict[str, Any], key: bytes, algorithm: str, typ: str) -> str:
    signed = f"{_header(algorithm, typ)}.{_to_base64url(_compact(payload))}"
    return f"{signed}.{_to_base64url(_key(key, algorithm).sign(signed.encode()))}"


def verify(token: str, key: bytes, algorithm: str, typ: str) -> dict[str, Any]:
    """Returns the payload (RFC 7515 §5.2). Checks the signature before it parses header and payload.

    Raises ValueError, KeyError, TypeError, AttributeError or RecursionError.
    """
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    raw_signature = _from_base64url(signature)
    if _to_base64url(raw_signature) != signature:  # RFC 4648 §3.5: only the canonical encoding is accepted
        raise ValueError("not base64url")
    if not _key(key, algorithm).verify(signed.encode(), raw_signature):
        raise ValueError("not our signature")
    _check_header(header, algorithm, typ)
    claims: dict[str, Any] = json.loads(_from_base64url(payload))
    return claims


@lru_cache
def _header(algorithm: str, typ: str) -> str:
    return _to_base64url(_compact({"alg": algorithm, "typ": typ}))


@lru_cache  # runs after the signature check, so there are few different headers
def _check_header(segment: str, algorithm: str, typ: str) -> None:
    header = json.loads(_from_base64url(segment))
    if header["alg"] != algorithm or header.get("typ") != typ:
        raise ValueError("another kind of token")
    if "crit" in header:  # RFC 7515 §4.1.11: we support no extensions
        raise ValueError("an extension")


@lru_cache
def _key(key: bytes, algorithm: str) -> Key:
    """A key object, because jose parses plain bytes that look like JSON as a key set."""
    return jwk.construct(key, algorithm)


def _compact(value: dict[str, Any]) -> bytes:
    return _encode(value).encode()


def _to_base64url(data: bytes) -> str:
    """Without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
