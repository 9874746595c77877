"""Keys that verify, read from a JWKS (RFC 7517 §5). No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jwt import PyJWK
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

_ALGORITHMS: Final = {"EC P-256": "ES256", "RSA None": "RS256"}
_IMPLEMENTATIONS: Final = get_default_algorithms()
_MAX_KEYS: Final = 100
_MIN_RSA_BITS: Final = 2048  # RFC 7518 §3.3
_MIN_SECRET_BYTES: Final = 32  # RFC 7518 §3.2


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """Each key has one algorithm, so that a header can choose none (RFC 8725 §3.1)."""

    algorithm: str
    key: Any = field(repr=False)

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        return _IMPLEMENTATIONS[self.algorithm].verify(signed, self.key, signature)


def read_secret(secret: str) -> VerificationKey:
    """The service's JWT_SECRET. Raises ValueError if it is too short."""
    if len(secret.encode()) < _MIN_SECRET_BYTES:
        raise ValueError(f"The shared secret must have {_MIN_SECRET_BYTES} bytes at least.")
    return VerificationKey("HS256", secret.encode())


def read_jwks(document: object) -> Mapping[str, VerificationKey]:
    """By kid. Keys that are of no use to us are left out. Raises ValueError if it is not a JWKS."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("not a JWKS")  # noqa: TRY004 — of the document, not of our caller
    read = [(jwk["kid"], _read(jwk)) for jwk in document["keys"][:_MAX_KEYS] if _is_wanted(jwk)]
    return {kid: key for kid, key in read if key is not None}


def _is_wanted(jwk: object) -> bool:
    return isinstance(jwk, dict) and isinstance(jwk.get("kid"), str) and jwk.get("use", "sig") == "sig"


def _read(jwk: dict[str, Any]) -> VerificationKey | None:
    """Public keys alone: a symmetric key in a public place is nobody's secret."""
    algorithm = _ALGORITHMS.get(f"{jwk.get('kty')} {jwk.get('crv')}")
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or "d" in jwk:
        return None
    try:
        key = PyJWK(jwk, algorithm).key
    except (PyJWTError, ValueError, TypeError):
        return None
    if algorithm == "RS256" and key.key_size < _MIN_RSA_BITS:
        return None
    return VerificationKey(algorithm, key)
