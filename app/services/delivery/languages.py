"""The language of a mail or a page, by the Accept-Language header (RFC 9110 §12.5.4)."""

import re
from typing import Final

LANGUAGES: Final = ("en", "de")
_RANGE: Final = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*|\*")
_QUALITY: Final = re.compile(r"[Qq]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def language_of(accept_language: str | None, default: str) -> str:
    """One of `LANGUAGES`; `default` where the header names none of them, or has no preference.

    `de-AT` is German. What is not well formed is ignored.
    """
    qualities: dict[str, float] = {}
    for part in (accept_language or "").split(","):
        tag, _, weight = (each.strip() for each in part.partition(";"))
        quality = _QUALITY.fullmatch(weight or "q=1")
        if (found := _RANGE.fullmatch(tag)) and quality:
            language = (found[1] or default).lower()
            qualities[language] = max(qualities.get(language, 0), float(quality[1]))
    wanted = [language for language in qualities if language in LANGUAGES and qualities[language]]
    return max(wanted, key=lambda language: qualities[language], default=default)
