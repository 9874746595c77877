import asyncio
import ssl
from typing import Final

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from app.mail_settings import SmtpServer
from app.services.delivery.letters import SEND_SECONDS, Letter, NotDelivered

COMMAND_SECONDS: Final = 20
_SERVICE_CLOSING: Final = 421
_PERMANENT: Final = 500


class SmtpTransport:
    """Keeps connections for the next letter. Certificates are checked, also the server's name in them."""

    def __init__(self, server: SmtpServer) -> None:
        """Opens no connection."""
        self._server = server
        self._idle: list[SMTP] = []
        self._tls: ssl.SSLContext | None = None

    async def send(self, letter: Letter) -> None:
        """Raises NotDelivered, after `SEND_SECONDS` at the latest."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if not await self._sent_over_kept(letter):
                    await self._send_over(await self._connect(), letter)
        except NotDelivered:
            raise
        except SMTPException as error:
            raise _translated(error) from None
        except (OSError, TimeoutError) as error:
            raise NotDelivered(_name(error), str(error), concerns_all=True) from None
        except ValueError as error:
            raise NotDelivered("the address cannot be sent", str(error), permanent=True) from None

    async def close(self) -> None:
        """Says goodbye to the server."""
        while self._idle:
            client = self._idle.pop()
            try:
                await client.quit(timeout=1)
            except (SMTPException, OSError, TimeoutError):
                client.close()

    async def _sent_over_kept(self, letter: Letter) -> bool:
        """False without a kept connection, or if the server has had enough of it."""
        while self._idle:
            client = self._idle.pop()
            if client.is_connected:
                try:
                    await self._send_over(client, letter)
                except SMTPServerDisconnected:
                    return False
                except SMTPResponseException as error:
                    if error.code != _SERVICE_CLOSING:
                        raise
                    return False
                return True
        return False

    async def _send_over(self, client: SMTP, letter: Letter) -> None:
        options = ["SMTPUTF8", "BODY=8BITMIME"] if letter.needs_utf8 else []
        try:
            await client.sendmail(letter.sender, [letter.recipient], letter.content, mail_options=options)
        except (SMTPRecipientsRefused, SMTPResponseException, SMTPNotSupported, ValueError) as error:
            if getattr(error, "code", 0) == _SERVICE_CLOSING or not client.is_connected:
                client.close()
            else:
                self._idle.append(client)
            raise
        except BaseException:
            client.close()
            raise
        self._idle.append(client)

    async def _connect(self) -> SMTP:
        server = self._server
        if self._tls is None and server.tls != "off":
            # On a thread, as it reads all authorities of the system.
            self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=server.ca_file)
        client = SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=self._tls,
            username=server.user,
            password=server.password,
            timeout=COMMAND_SECONDS,
        )
        try:
            await client.connect()
        except SMTPException as error:
            client.close()
            raise _translated(error, connecting=True) from None
        except BaseException:
            client.close()
            raise
        return client


def _translated(error: SMTPException, *, connecting: bool = False) -> NotDelivered:
    """Only what concerns the recipient or the message is permanent: the rest an operator can put right."""
    if isinstance(error, SMTPRecipientsRefused):
        refused = error.recipients[0]
        return NotDelivered(
            f"recipient refused with {refused.code}", refused.message, permanent=refused.code >= _PERMANENT
        )
    if isinstance(error, SMTPNotSupported):
        return NotDelivered("the server takes no address beyond ASCII (SMTPUTF8)", permanent=True)
    if isinstance(error, SMTPDataError):
        permanent = error.code >= _PERMANENT
        return NotDelivered(f"message refused with {error.code}", error.message, permanent=permanent)
    if isinstance(error, SMTPAuthenticationError):
        return NotDelivered(f"login refused with {error.code}", error.message, concerns_all=True)
    if isinstance(error, SMTPResponseException):
        return NotDelivered(f"refused with {error.code}", error.message, concerns_all=True)
    return NotDelivered(_name(error), str(error), concerns_all=connecting or isinstance(error, OSError))


def _name(error: BaseException) -> str:
    """The class of what went wrong in the end, such as SSLCertVerificationError."""
    cause = error
    while isinstance(deeper := cause.__cause__ or cause.__context__, Exception):
        cause = deeper
    return type(cause).__name__
