"""What a User-Agent header says, in words of ours: what a client writes there never gets into a mail."""

from collections.abc import Sequence
from typing import Final

# The first one that is found counts: Edge also says that it is Chrome, and Chrome that it is Safari.
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def browser_and_system(user_agent: str | None) -> tuple[str | None, str | None]:
    """Such as ("Firefox", "Windows"); None for what is not known."""
    return _find(_BROWSERS, user_agent or ""), _find(_SYSTEMS, user_agent or "")


def _find(known: Sequence[tuple[str, str]], user_agent: str) -> str | None:
    return next((name for mark, name in known if mark in user_agent), None)
