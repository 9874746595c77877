"""A position in the feed of revocations, which loses none of them in whatever order they are committed.

Ids are assigned before the commit, so a reader that remembers the highest id misses a transaction that
commits later with a lower one. A cursor therefore contains the snapshot of the database in which the
last page was read (`pg_current_snapshot`), and the next page has what was not visible in it.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from app.errors import InvalidCursor

_TEXT: Final = re.compile(
    r"(?P<epoch>[0-9a-f]{32})"
    r"\.(?P<seen>[0-9]{1,19}:[0-9]{1,19}:[0-9_]{0,1000})"
    r"(?:\.(?P<reading>[0-9]{1,19}:[0-9]{1,19}:[0-9_]{0,1000})\.(?P<last_id>[0-9]{1,18}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything that was visible in the snapshot `seen`, and, of `reading`, everything up to `last_id`.

    `epoch` identifies the history of the database: transaction ids of another one mean nothing.
    """

    epoch: str
    seen: str
    reading: str | None = None
    last_id: int = 0

    def __str__(self) -> str:
        parts = [self.epoch, self.seen]
        if self.reading is not None:
            parts += [self.reading, str(self.last_id)]
        return ".".join(parts).replace(",", "_")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidCursor."""
        if not (match := _TEXT.fullmatch(text)):
            raise InvalidCursor
        seen, reading = (part and part.replace("_", ",") for part in match.group("seen", "reading"))
        return cls(match["epoch"], seen, reading, int(match["last_id"] or 0))
