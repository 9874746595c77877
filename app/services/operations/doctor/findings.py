from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """With a `fault`, the service does not do what it promises; with a `warning`, somebody should look."""

    verdict: Literal["ok", "warning", "fault"]
    subject: str
    text: str


def ok(subject: str, text: str) -> Finding:
    return Finding("ok", subject, text)


def warning(subject: str, text: str) -> Finding:
    return Finding("warning", subject, text)


def fault(subject: str, text: str) -> Finding:
    return Finding("fault", subject, text)
