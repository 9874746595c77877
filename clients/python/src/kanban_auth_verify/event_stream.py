"""Server-sent events (WHATWG HTML §9.2), as far as the feed uses them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_MAX_LINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is "heartbeat" for a comment."""

    kind: str
    data: str = ""
    id: str = ""


HEARTBEAT: Final = Event("heartbeat")


def read_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Raises ValueError if a line has no end."""
    fields: dict[str, str] = {}
    for line in _lines(chunks):
        if line.startswith(":"):
            yield HEARTBEAT
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield Event(fields.get("event", "message"), fields.get("data", ""), fields.get("id", ""))
            fields = {}


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise ValueError("a line without an end")
        for line in lines:
            yield line.removesuffix(b"\r").decode()
