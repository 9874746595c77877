"""JSON Web Signatures in compact serialization (RFC 7515 §3.1). No I/O.

PyJWT's own `decode` looks at each character of a token in Python, which takes as long as the signature.
"""

import json
from functools import lru_cache
from typing import Any, Final, NamedTuple

from jwt.utils import base64url_decode, base64url_encode

from kanban_auth_verify.errors import InvalidToken
from kanban_auth_verify.keys import VerificationKey

_MAX_TOKEN_LENGTH: Final = 8192
_TYPES: Final = ("at+jwt", "application/at+jwt")  # RFC 9068 §4
_MALFORMED: Final = (KeyError, ValueError, TypeError, AttributeError, RecursionError)


class Header(NamedTuple):
    algorithm: str
    kid: str | None


def read_header(token: str) -> Header:
    """Says which key to try, and is believed in nothing else. Raises InvalidToken."""
    if len(token) > _MAX_TOKEN_LENGTH:
        raise InvalidToken("too long")
    return _parse_header(token.partition(".")[0])


@lru_cache(maxsize=64)
def _parse_header(segment: str) -> Header:
    try:
        header = json.loads(base64url_decode(segment))
        algorithm, kid, typ = header["alg"], header.get("kid"), header["typ"].lower()
    except _MALFORMED:
        raise InvalidToken("not a JWT") from None
    if typ not in _TYPES:
        raise InvalidToken("another type of token")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None):
        raise InvalidToken("not a JWT")
    if "crit" in header or "b64" in header:  # RFC 7515 §4.1.11: we support no extensions
        raise InvalidToken("an extension")
    return Header(algorithm, kid)


def read_payload(token: str, key: VerificationKey) -> Any:
    """Checks the signature before it parses the payload. Raises ValueError or RecursionError."""
    signed, _, signature = token.rpartition(".")
    raw_signature = base64url_decode(signature)
    if base64url_encode(raw_signature).decode() != signature:  # RFC 4648 §3.5: the canonical encoding alone
        raise ValueError("not base64url")
    if not key.verifies(signed.encode(), raw_signature):
        raise ValueError("another signature")
    return json.loads(base64url_decode(signed.partition(".")[2]))
