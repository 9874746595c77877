"""Messages as SMTP servers take them (RFC 5322)."""

from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final, NamedTuple, Protocol
from uuid import UUID

SEND_SECONDS: Final = 50
"""The longest that a transport may take for a letter."""
# Lines as SMTP wants them, and no bytes above 127, as not every server takes those (RFC 6152).
_ASCII: Final = policy.SMTP.clone(cte_type="7bit")
_WITH_UTF8_HEADERS: Final = policy.SMTPUTF8


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
    """The id of a draft gives its `Message-ID`, so that who gets a mail twice can tell."""

    def __init__(self, sender: Address) -> None:
        self.sender = sender

    def compose(self, draft: Draft) -> Letter:
        """Raises NotDelivered if that makes no message, such as with a line break in the subject."""
        local, _, domain = draft.recipient.rpartition("@")
        message = EmailMessage(policy=_ASCII if draft.recipient.isascii() else _WITH_UTF8_HEADERS)
        try:
            message["From"] = self.sender
            message["To"] = Address(username=local, domain=domain)
            message["Subject"] = draft.subject
        except (ValueError, IndexError):
            raise NotDelivered("its headers are not usable", permanent=True) from None
        message["Date"] = format_datetime(draft.created_at)
        message["Message-ID"] = f"<{draft.id}@{self.sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
        message.set_content(draft.text_body)
        if draft.html_body is not None:
            message.add_alternative(draft.html_body, subtype="html")
            message.set_boundary(f"={draft.id.hex}")  # the same bytes at each attempt
        return Letter(self.sender.addr_spec, draft.recipient, message.as_bytes())
