"""Access and refresh tokens: JWTs (RFC 7519) of two types; neither is accepted in place of the other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from app.errors import InvalidRefreshToken, InvalidToken, TokenExpired
from app.security import jws

_ACCESS_TYPE: Final = "at+jwt"  # RFC 9068 §2.1
_REFRESH_TYPE: Final = "rt+jwt"
_CLIENT_ID: Final = "kanban"  # RFC 9068 §2.2 requires one; all logins are those of our own frontend
_USER_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
# Exceptions that a malformed token can cause.
_MALFORMED = (KeyError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Times are Unix seconds. `session_id` is None if a sibling service issued the token without one.

    `email` is None where tokens tell none, and in tokens that come in.
    """

    user_id: int
    role: str
    session_id: UUID | None
    token_id: str
    issued_at: int
    expires_at: int
    email: str | None = None
    email_verified: bool = False


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """Times are Unix seconds. The same claims and keys always give the same token."""

    user_id: int
    session_id: UUID
    token_id: UUID
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Parties:
    """Who issues tokens, and for whom; without an `audience`, access tokens have no `aud`."""

    issuer: str
    audience: str | None


def encode_access(claims: AccessClaims, parties: Parties, key: jws.Key) -> str:
    payload: dict[str, Any] = {"role": claims.role}
    if claims.email is not None:  # OpenID Connect Core 1.0, §5.1
        payload |= {"email": claims.email, "email_verified": claims.email_verified}
    if claims.session_id is not None:
        payload["sid"] = str(claims.session_id)
    if parties.audience is not None:
        payload |= {"aud": parties.audience, "client_id": _CLIENT_ID}
    return jws.sign(payload | _registered(claims, parties), key, _ACCESS_TYPE)


def kid_of(token: str) -> str | None:
    """The id of the key that is said to have signed it. Raises InvalidToken if it is not readable."""
    try:
        return jws.kid_of(token)
    except _MALFORMED:
        raise InvalidToken from None


def decode_access(token: str, parties: Parties, keys: Sequence[jws.Key], now: float) -> AccessClaims:
    """`now` is in Unix seconds. Raises InvalidToken, or TokenExpired if a valid token has expired."""
    try:
        payload = _decode(token, _ACCESS_TYPE, parties, keys, now)
        if not _is_meant_for(parties.audience, payload):
            raise ValueError("for somebody else")
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


def encode_refresh(claims: RefreshClaims, parties: Parties, key: jws.Key) -> str:
    payload = {"sid": str(claims.session_id)}
    return jws.sign(payload | _registered(claims, parties), key, _REFRESH_TYPE)


def decode_refresh(token: str, parties: Parties, keys: Sequence[jws.Key], now: float) -> RefreshClaims:
    """`now` is in Unix seconds. Raises InvalidRefreshToken if the token is not valid or has expired."""
    try:
        payload = _decode(token, _REFRESH_TYPE, parties, keys, now)
        if not _is_meant_for(None, payload):
            raise ValueError("for somebody else")
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


def _registered(claims: AccessClaims | RefreshClaims, parties: Parties) -> dict[str, Any]:
    """The claims that RFC 7519 §4.1 names."""
    return {
        "iss": parties.issuer,
        "sub": str(claims.user_id),
        "jti": str(claims.token_id),
        "iat": claims.issued_at,
        "exp": claims.expires_at,
    }


def _decode(token: str, typ: str, parties: Parties, keys: Sequence[jws.Key], now: float) -> dict[str, Any]:
    """Checks everything except `aud` and `exp`, and returns the claims. Raises any of _MALFORMED."""
    payload = jws.verify(token, keys, typ)
    if payload["iss"] != parties.issuer:
        raise ValueError("of somebody else")
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
