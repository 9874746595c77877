"""Refresh tokens whose rotation failed while it waited, and that were still live then.

A commit that waits for its standby may be seen long after the time that it carries. What a client repeats
is judged from when nobody could have seen it yet, or honest ones would be taken for thieves.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

_MOST: Final = 10_000
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class SeenLive:
    """The newest ones of this worker."""

    def __init__(self) -> None:
        self._at: dict[UUID, datetime] = {}

    def note(self, token_id: UUID, at: datetime) -> None:
        self._at.pop(token_id, None)
        self._at[token_id] = at
        if len(self._at) > _MOST:
            del self._at[next(iter(self._at))]

    def at(self, token_id: UUID) -> datetime:
        return self._at.get(token_id, _NEVER)
