"""What the service logs."""

import io
import json
from typing import Any


class Lines(io.StringIO):
    """Standard output, as the service has written it."""

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    def events(self, name: str) -> list[dict[str, Any]]:
        events = map(json.loads, self.lines)
        return [event for event in events if event["event"] == name]
