"""Time, so that tests can move it."""

import time


class Clock:
    def now(self) -> float:
        """Unix seconds, as in tokens."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back, for durations."""
        return time.monotonic()
