"""Messages as SMTP servers take them (RFC 5322)."""

import re
from binascii import b2a_qp
from datetime import datetime
from email import policy
from email.header import Header
from email.headerregistry import Address
from email.utils import format_datetime
from typing import Final, NamedTuple, Protocol
from uuid import UUID

SEND_SECONDS: Final = 50
"""The longest that a transport may take for a letter."""
_CRLF: Final = "\r\n"
_BREAK: Final = re.compile(r"[\r\n\0]")


class Letter(NamedTuple):
    """`sender` and `recipient` are those of the envelope."""

    sender: str
    recipient: str
    content: bytes

    @property
    def needs_utf8(self) -> bool:
        """Whether the server must know SMTPUTF8 (RFC 6531): domains are ASCII, local parts need not be."""
        return not self.recipient.isascii()


class NotDelivered(Exception):
    """`reason` is for logs, and `said` what the server said, which may name the recipient.

    No retry helps if it is `permanent`. If it `concerns_all`, other letters would fare no better now.
    """

    def __init__(
        self, reason: str, said: str = "", *, permanent: bool = False, concerns_all: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.said = said
        self.permanent = permanent
        self.concerns_all = concerns_all


class Transport(Protocol):
    """Takes letters, several at once."""

    async def send(self, letter: Letter) -> None:
        """Raises NotDelivered."""

    async def close(self) -> None:
        """It reopens on its next use."""


class Draft(NamedTuple):
    """What a letter is made of."""

    id: UUID
    recipient: str
    subject: str
    text_body: str
    html_body: str | None
    created_at: datetime


class Composer:
    """The id of a draft gives its `Message-ID`, so that who gets a mail twice can tell.

    `email.message` takes thirty times as long, and the event loop stands still meanwhile.
    """

    def __init__(self, sender: Address) -> None:
        self.sender = sender
        self._from = policy.SMTP.header_factory("From", str(sender)).fold(policy=policy.SMTP).encode()

    def compose(self, draft: Draft) -> Letter:
        """Raises NotDelivered if that makes no message, such as with a line break in the subject."""
        if _BREAK.search(draft.recipient + draft.subject):
            raise NotDelivered("its headers are not usable", permanent=True)
        boundary = draft.id.hex
        headers = (
            f"To: {draft.recipient}",
            f"Subject: {Header(draft.subject, header_name='Subject').encode(linesep=_CRLF)}",
            f"Date: {format_datetime(draft.created_at)}",
            f"Message-ID: <{draft.id}@{self.sender.domain}>",
            "Auto-Submitted: auto-generated",  # RFC 3834: no out-of-office replies
            "MIME-Version: 1.0",
            f'Content-Type: multipart/alternative; boundary="={boundary}"',
        )
        parts = [_part(draft.text_body, "plain")]
        if draft.html_body is not None:
            parts.append(_part(draft.html_body, "html"))
        # A line with this = in it is nothing that quoted-printable makes (RFC 2045 §6.7).
        delimiter = f"{_CRLF}--={boundary}".encode()
        body = b"".join(delimiter + part for part in parts) + delimiter + b"--\r\n"
        content = self._from + _CRLF.join((*headers, "")).encode() + body
        return Letter(self.sender.addr_spec, draft.recipient, content)


def _part(text: str, subtype: str) -> bytes:
    headers = f'Content-Type: text/{subtype}; charset="utf-8"', "Content-Transfer-Encoding: quoted-printable"
    # It ends soft line breaks as the first line of what it is given ends.
    lines = text.rstrip("\n").replace("\r\n", "\n").replace("\n", _CRLF) + _CRLF
    return _CRLF.join(("", *headers, "", "")).encode() + b2a_qp(lines.encode())
