"""Mails that a service has sent, and what is in them."""

import re
from email.message import EmailMessage
from typing import Any

from app.models.one_time_tokens import Purpose
from tests.support.api import Api
from tests.support.smtp import SmtpServer
from tests.support.waiting import eventually

SENDER = {"mail": True, "mail_from": "Kanban <no-reply@board.example.com>", "public_url": "http://board.test"}


class Mailbox:
    """What has come for one address, in order; `next` waits for the next one."""

    def __init__(self, server: SmtpServer, address: str) -> None:
        self._server = server
        self.address = address
        self._read = 0

    def next(self) -> EmailMessage:
        mails = eventually(lambda: self._server.to(self.address)[self._read :], lambda: f"for {self.address}")
        self._read += 1
        return mails[0]

    def next_subjects(self, number: int) -> list[str]:
        """Sorted, as mails of one transaction may overtake each other."""
        return sorted(self.next()["Subject"] for _ in range(number))

    def next_token(self) -> str:
        return token_in(self.next())


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def link_in(mail: EmailMessage) -> str:
    found = re.findall(r"^https?://\S+$", text_of(mail), re.MULTILINE)
    assert len(found) == 1, text_of(mail)
    return str(found[0])


def token_in(mail: EmailMessage) -> str:
    return link_in(mail).rpartition("?token=")[2]


PURPOSES = {
    "POST /api/v1/password/reset": Purpose.PASSWORD_RESET,
    "POST /api/v1/email/verify": Purpose.EMAIL_VERIFICATION,
    "POST /api/v1/email/restore": Purpose.EMAIL_RESTORE,
    "POST /account/reset": Purpose.PASSWORD_RESET,
    "POST /account/verify": Purpose.EMAIL_VERIFICATION,
    "POST /account/email": Purpose.EMAIL_VERIFICATION,
    "POST /account/restore": Purpose.EMAIL_RESTORE,
}


def issued_token(api: Api, operation: str, user_id: int, email: str) -> str:
    """As in the link of a mail; an empty one for operations that want none."""
    if operation not in PURPOSES:
        return ""
    container = api.operator
    issued = container.mails.tokens.issue(
        container.resources.requests, PURPOSES[operation], user_id, email=email
    )
    return issued.token


def sending(server: SmtpServer, **settings: Any) -> dict[str, Any]:
    """Settings of a service that sends by this server."""
    return SENDER | {"smtp_url": server.url} | settings
