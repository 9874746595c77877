"""What must not be believed although it has not expired. In memory, and bounded."""

import threading
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from kanban_auth_verify.claims import LEEWAY_SECONDS, AccessClaims
from kanban_auth_verify.errors import TokenExpired, TokenRefused, TokenRevoked

MAX_ENTRIES: Final = 100_000
"""About 30 MB. The service needs a hundred sign-outs a second to reach it."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """All tokens of a session; or of a user those issued until `issued_before`, or those of another `role`.

    Times are Unix seconds.
    """

    session_id: UUID | None
    user_id: int | None
    issued_before: int | None
    role: str | None
    expires_at: int


def read_revocation(item: Any) -> Revocation:
    """An item of the feed. Raises ValueError, KeyError, TypeError or AttributeError."""
    sid, sub, issued_before, role = item["sid"], item["sub"], item["issued_before"], item.get("role")
    if (sid is None and sub is None) or (sub is not None and issued_before is None and role is None):
        raise ValueError("of nobody")
    return Revocation(
        session_id=None if sid is None else UUID(sid),
        user_id=None if sub is None else int(sub),
        issued_before=None if issued_before is None else int(issued_before),
        role=None if role is None else str(role),
        expires_at=int(item["expires_at"]),
    )


class _Entry(NamedTuple):
    expires_at: int
    issued_before: int
    role: str | None


_NOTHING: Final = _Entry(0, -1, None)


class RevocationList:
    """Reading takes no lock.

    Beyond `max_entries`, those that expire first make room. What they stood for does not come back: the
    tokens that they could mean expire by then too, so from now on all tokens that expire by then are
    refused. Their users refresh, and go on.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._entries: dict[UUID | int, _Entry] = {}
        self._refused_until = 0

    def __len__(self) -> int:
        return len(self._entries)

    def refusal_of(self, claims: AccessClaims) -> TokenRefused | None:
        """TokenRevoked if the session has ended, TokenExpired if a refresh gives a token that is believed."""
        of_user = self._entries.get(claims.user_id, _NOTHING)
        if claims.session_id in self._entries or claims.issued_at <= of_user.issued_before:
            return TokenRevoked()
        if of_user.role not in {None, claims.role}:
            return TokenExpired("its role has changed")
        if claims.expires_at <= self._refused_until:
            return TokenExpired("too many revocations to know them all")
        return None

    def add(self, revocation: Revocation) -> None:
        with self._lock:
            if revocation.session_id is not None:
                self._put(revocation.session_id, _Entry(revocation.expires_at, 0, None))
            if revocation.user_id is not None:
                issued_before = revocation.issued_before or 0
                self._put(revocation.user_id, _Entry(revocation.expires_at, issued_before, revocation.role))
            if len(self._entries) > self._max_entries:
                self._make_room()

    def forget_expired(self, now: float) -> None:
        """A token is taken for LEEWAY_SECONDS after its `exp`, and what refuses it stays as long."""
        with self._lock:
            for key, entry in list(self._entries.items()):
                if entry.expires_at + LEEWAY_SECONDS < now:
                    del self._entries[key]

    def _put(self, key: UUID | int, new: _Entry) -> None:
        """Of two roles the later word counts, as the feed has an order."""
        known = self._entries.get(key, new)
        self._entries[key] = _Entry(
            max(known.expires_at, new.expires_at),
            max(known.issued_before, new.issued_before),
            new.role or known.role,
        )

    def _make_room(self) -> None:
        """A quarter at once, as the search for the oldest takes a while."""
        by_expiry = sorted(self._entries.items(), key=lambda item: item[1].expires_at)
        for key, entry in by_expiry[: self._max_entries // 4 + 1]:
            self._refused_until = max(self._refused_until, entry.expires_at)
            del self._entries[key]
