from collections import Counter
from math import inf
from time import monotonic


class Repetition:
    """Says when it is time for a line of the log that would come with every request."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}
        self._numbers: Counter[str] = Counter()

    def due(self, reason: str) -> int | None:
        """How often it happened since the last line of this reason; None while that is recent."""
        self._numbers[reason] += 1
        now = monotonic()
        if now - self._last.get(reason, -inf) < self._seconds:
            return None
        self._last[reason] = now
        return self._numbers.pop(reason)
