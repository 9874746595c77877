"""A position in the feed of revocations, which loses none of them in whatever order they are committed.

Ids are assigned before the commit, so a reader that remembers the highest id misses a transaction that
commits later with a lower one. A cursor therefore contains the snapshot of the database in which the
last page was read (`pg_current_snapshot`), and the next page has what was not visible in it.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from app.errors import InvalidCursor

_SNAPSHOT = r"[0-9]{1,19}:[0-9]{1,19}:(?:[0-9_]{0,800}|\*)"
_TEXT: Final = re.compile(
    rf"(?P<epoch>[0-9a-f]{{32}})\.(?P<seen>{_SNAPSHOT})"
    rf"(?:\.(?P<reading>{_SNAPSHOT})\.(?P<last_id>[0-9]{{1,18}}))?",
    re.ASCII,
)
_MOST_RUNNING: Final = 800  # characters, of the ids of transactions that are running


class Snapshot(NamedTuple):
    """PostgreSQL's `pg_snapshot`; or, if too many transactions are running, only what is older than all.

    What such a rough snapshot does not contain is read again, so that a listener gets it twice.
    """

    text: str
    is_rough: bool = False

    @classmethod
    def taken(cls, text: str) -> Self:
        oldest, _, running = text.split(":")
        return cls(text) if len(running) <= _MOST_RUNNING else cls(f"{oldest}:{oldest}:", is_rough=True)

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(text.replace("_", ",").rstrip("*"), text.endswith("*"))

    @property
    def oldest(self) -> int:
        """The oldest transaction that may not be visible."""
        return int(self.text.partition(":")[0])

    def __str__(self) -> str:
        return self.text.replace(",", "_") + "*" * self.is_rough


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything that was visible in the snapshot `seen`, and, of `reading`, everything up to `last_id`.

    `epoch` identifies the history of the database: transaction ids of another one mean nothing.
    """

    epoch: str
    seen: Snapshot
    reading: Snapshot | None = None
    last_id: int = 0

    def __str__(self) -> str:
        begun = "" if self.reading is None else f".{self.reading}.{self.last_id}"
        return f"{self.epoch}.{self.seen}{begun}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidCursor."""
        if not (match := _TEXT.fullmatch(text)):
            raise InvalidCursor
        reading = Snapshot.parse(match["reading"]) if match["reading"] else None
        return cls(match["epoch"], Snapshot.parse(match["seen"]), reading, int(match["last_id"] or 0))
