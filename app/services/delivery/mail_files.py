"""Mails of development: files in a folder instead of an SMTP server."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from app.services.delivery.letters import Letter, NotDelivered


class StoredMail(NamedTuple):
    """`at` is in UTC."""

    at: datetime
    recipient: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class MailFolder:
    path: Path

    async def send(self, letter: Letter) -> None:
        """Raises NotDelivered."""
        try:
            await asyncio.to_thread(self._write, letter)
        except OSError as error:
            raise NotDelivered(type(error).__name__, str(error), concerns_all=True) from None

    async def close(self) -> None:
        """Nothing is open."""

    def _write(self, letter: Letter) -> None:
        message = _parse(letter.content)
        name = (
            f"{message['Date'].datetime:%Y%m%dT%H%M%S}-{message['Message-ID'].strip('<>').partition('@')[0]}"
        )
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / f"{name}.eml").write_bytes(letter.content)

    def newest(self, number: int) -> Iterator[StoredMail]:
        """Newest first."""
        files = sorted(self.path.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in files[:number]:
            message = _parse(file.read_bytes())
            body = message.get_body(("plain",))
            yield StoredMail(
                message["Date"].datetime,
                str(message["To"]),
                str(message["Subject"]),
                str(body.get_content()) if body else "",
            )


def _parse(content: bytes) -> EmailMessage:
    message: EmailMessage = message_from_bytes(content, policy=policy.default)
    return message
