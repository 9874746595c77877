"""What the service logs."""

import io
import json
from typing import Any

from tests.support.waiting import eventually


class Lines(io.StringIO):
    """Standard output, as the service has written it."""

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    def events(self, name: str) -> list[dict[str, Any]]:
        events = map(json.loads, self.lines)
        return [event for event in events if event["event"] == name]

    def requests(self, number: int) -> list[dict[str, Any]]:
        """Once there are so many, as a line is written after its answer was sent."""
        eventually(lambda: len(self.events("http.request")) >= number, lambda: f"{number} requests")
        return self.events("http.request")
