"""Access and refresh tokens: JWTs (RFC 7519) of two types; neither is accepted in place of the other."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from app.errors import InvalidRefreshToken, InvalidToken, TokenExpired
from app.security import jws
from app.security.keys import TokenKeys

_ACCESS_TYPE = "at+jwt"  # RFC 9068 §2.1
_REFRESH_TYPE = "rt+jwt"
_REFRESH_ALGORITHM = "HS256"
_USER_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
# Exceptions that a malformed token can cause.
_MALFORMED = (KeyError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Times are Unix seconds. `session_id` is None if a sibling service issued the token without one."""

    user_id: int
    role: str
    session_id: UUID | None
    token_id: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """Times are Unix seconds. The same claims and keys always give the same token."""

    user_id: int
    session_id: UUID
    token_id: UUID
    issued_at: int
    expires_at: int


class _Purpose(NamedTuple):
    key: bytes
    algorithm: str
    typ: str
    issuer: str
    audience: str | None


def _access(keys: TokenKeys) -> _Purpose:
    return _Purpose(keys.access, keys.algorithm, _ACCESS_TYPE, keys.issuer, keys.audience)


def _refresh(keys: TokenKeys) -> _Purpose:
    return _Purpose(keys.refresh, _REFRESH_ALGORITHM, _REFRESH_TYPE, keys.issuer, None)


def encode_access(claims: AccessClaims, keys: TokenKeys) -> str:
    payload = {"role": claims.role}
    if claims.session_id is not None:
        payload["sid"] = str(claims.session_id)
    return _encode(payload, claims, _access(keys))


def decode_access(token: str, keys: TokenKeys, now: float) -> AccessClaims:
    """`now` is in Unix seconds. Raises InvalidToken, or TokenExpired if a valid token has expired."""
    try:
        payload = _decode(token, _access(keys), now)
        claims = AccessClaims(
            user_id=_user_id(payload),
            role=str(payload.get("role", "")),
            session_id=_session_id(payload),
            token_id=_token_id(payload),
            issued_at=payload["iat"],
            expires_at=payload["exp"],
        )
    except _MALFORMED:
        raise InvalidToken from None
    if claims.expires_at <= now:
        raise TokenExpired
    return claims


def encode_refresh(claims: RefreshClaims, keys: TokenKeys) -> str:
    return _encode({"sid": str(claims.session_id)}, claims, _refresh(keys))


def decode_refresh(token: str, keys: TokenKeys, now: float) -> RefreshClaims:
    """`now` is in Unix seconds. Raises InvalidRefreshToken if the token is not valid or has expired."""
    try:
        payload = _decode(token, _refresh(keys), now)
        claims = RefreshClaims(
            user_id=_user_id(payload),
            session_id=UUID(payload["sid"]),
            token_id=UUID(payload["jti"]),
            issued_at=payload["iat"],
            expires_at=payload["exp"],
        )
    except _MALFORMED:
        raise InvalidRefreshToken from None
    if claims.expires_at <= now:
        raise InvalidRefreshToken
    return claims


def _encode(payload: dict[str, Any], claims: AccessClaims | RefreshClaims, purpose: _Purpose) -> str:
    payload |= {
        "iss": purpose.issuer,
        "sub": str(claims.user_id),
        "jti": str(claims.token_id),
        "iat": claims.issued_at,
        "exp": claims.expires_at,
    }
    if purpose.audience is not None:
        payload["aud"] = purpose.audience
    return jws.sign(payload, purpose.key, purpose.algorithm, purpose.typ)


def _decode(token: str, purpose: _Purpose, now: float) -> dict[str, Any]:
    """Checks everything except `exp`, and returns the claims. Raises any of _MALFORMED."""
    payload = jws.verify(token, purpose.key, purpose.algorithm, purpose.typ)
    if payload["iss"] != purpose.issuer or not _is_meant_for(purpose.audience, payload):
        raise ValueError("of or for somebody else")
    if type(payload["exp"]) is not int or type(payload["iat"]) is not int:
        raise ValueError("times are integers")
    if payload.get("nbf", 0) > now:
        raise ValueError("not valid yet")
    return payload


def _is_meant_for(audience: str | None, payload: dict[str, Any]) -> bool:
    """RFC 7519 §4.1.3: `aud` is a string or a list. If no audience is configured, `aud` must be absent."""
    if audience is None:
        return "aud" not in payload
    given = payload["aud"]
    return given == audience or (isinstance(given, list) and audience in given)


def _session_id(payload: dict[str, Any]) -> UUID | None:
    try:
        return UUID(payload["sid"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _token_id(payload: dict[str, Any]) -> str:
    if not isinstance(payload["jti"], str) or not payload["jti"]:
        raise ValueError("not a token id")
    return payload["jti"]


def _user_id(payload: dict[str, Any]) -> int:
    if not _USER_ID.fullmatch(payload["sub"]):
        raise ValueError("not a user id")
    return int(payload["sub"])
