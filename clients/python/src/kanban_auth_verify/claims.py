"""What an access token says, and whether it may say so (RFC 9068 §4, RFC 8725 §3). No I/O."""

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from kanban_auth_verify.errors import InvalidToken, TokenExpired
from kanban_auth_verify.jws import read_payload
from kanban_auth_verify.keys import VerificationKey

LEEWAY_SECONDS: Final = 5
"""How far the clocks of the service and of its siblings may differ."""

_USER_ID: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_MALFORMED: Final = (KeyError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Times are Unix seconds. `session_id` is None if a sibling service issued the token without one."""

    user_id: int
    role: str
    session_id: UUID | None
    token_id: str
    issued_at: int
    expires_at: int


class Policy(NamedTuple):
    """What is pinned besides the key. Without an audience, a token that has one is for somebody else."""

    issuer: str
    audience: str | None


def read_claims(token: str, key: VerificationKey, policy: Policy, now: float) -> AccessClaims:
    """`now` is in Unix seconds. Raises InvalidToken, or TokenExpired if a valid token has expired."""
    try:
        payload = read_payload(token, key)
        _check(payload, policy, now)
        claims = AccessClaims(
            user_id=_user_id(payload),
            role=str(payload.get("role", "")),
            session_id=_session_id(payload),
            token_id=_token_id(payload),
            issued_at=payload["iat"],
            expires_at=payload["exp"],
        )
    except _MALFORMED as error:
        raise InvalidToken(str(error)) from None
    if claims.expires_at <= now - LEEWAY_SECONDS:
        raise TokenExpired
    return claims


def _check(payload: dict[str, Any], policy: Policy, now: float) -> None:
    if payload["iss"] != policy.issuer:
        raise ValueError("another issuer")
    if not _is_meant_for(policy.audience, payload):
        raise ValueError("another audience")
    if type(payload["exp"]) is not int or type(payload["iat"]) is not int:
        raise ValueError("times are integers")
    if payload.get("nbf", 0) > now + LEEWAY_SECONDS:
        raise ValueError("not valid yet")


def _is_meant_for(audience: str | None, payload: dict[str, Any]) -> bool:
    """RFC 7519 §4.1.3: `aud` is a string or a list."""
    if audience is None:
        return "aud" not in payload
    given = payload.get("aud")
    return given == audience or (isinstance(given, list) and audience in given)


def _session_id(payload: dict[str, Any]) -> UUID | None:
    """One that cannot be read could not be found among those that have ended either."""
    sid = payload.get("sid")
    return None if sid is None else UUID(sid)


def _token_id(payload: dict[str, Any]) -> str:
    if not isinstance(payload["jti"], str) or not payload["jti"]:
        raise ValueError("not a token id")
    return payload["jti"]


def _user_id(payload: dict[str, Any]) -> int:
    if not _USER_ID.fullmatch(payload["sub"]):
        raise ValueError("not a user id")
    return int(payload["sub"])
