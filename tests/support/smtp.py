"""An SMTP server on a local port, which keeps what it takes and refuses what a test wants refused."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.processes import reserved_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

TAKEN = "250 OK"


class SmtpServer:
    """`answer_*` is what it says; `on_data`, if any, is called before it takes a message."""

    def __init__(self, port: int, **options: Any) -> None:
        self.port = port
        self.url = f"smtp://127.0.0.1:{port}"
        self.envelopes: list[Envelope] = []
        self.sessions: set[Any] = set()
        self.logins: list[LoginPassword] = []
        self.over_tls = False
        self.answer_recipient: Callable[[str], str] = lambda _: TAKEN
        self.answer_data = TAKEN
        self.keeps_what_it_cuts_off = False
        self.on_data: Callable[[], None] = lambda: None
        self._options = options
        self._controller: Controller | None = None

    def url_with(self, login: str, options: str) -> str:
        """`login` ends with an @."""
        return f"smtp://{login}127.0.0.1:{self.port}?{options}"

    def messages(self) -> list[EmailMessage]:
        """No property, as aiosmtpd reads all attributes of its handler at each connection."""
        return [self._parse(envelope) for envelope in list(self.envelopes)]

    def to(self, recipient: str) -> list[EmailMessage]:
        """What it has taken for somebody."""
        taken = [each for each in list(self.envelopes) if each.rcpt_tos == [recipient]]
        return [self._parse(envelope) for envelope in taken]

    def first_to(self, recipient: str) -> EmailMessage:
        return eventually(lambda: self.to(recipient), lambda: f"a mail to {recipient}")[0]

    def start(self) -> None:
        options: dict[str, Any] = {"authenticator": self.authenticate, "ready_timeout": PATIENCE_SECONDS}
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **options | self._options)
        self._controller.start()

    def cut_off(self) -> None:
        """Whoever is connected, without a word; from within one of the answers."""
        for session in self.sessions:
            session.abort()
        self.sessions.clear()

    def stop(self) -> None:
        """Also cuts off who is connected."""
        if self._controller is not None:
            controller, self._controller = self._controller, None
            controller.loop.call_soon_threadsafe(self.cut_off)
            controller.stop()

    def _parse(self, envelope: Envelope) -> EmailMessage:
        assert isinstance(envelope.content, bytes)
        message: EmailMessage = message_from_bytes(envelope.content, policy=policy.default)
        return message

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.sessions.add(server.transport)
        return responses

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if (answer := self.answer_recipient(address)) == TAKEN:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.over_tls = session.ssl is not None
        self.on_data()
        if self.answer_data == TAKEN and (self.sessions or self.keeps_what_it_cuts_off):
            self.envelopes.append(envelope)
        return self.answer_data

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        self.logins.append(data)
        return AuthResult(success=data.password == b"p:ss/% word", handled=False)


@contextmanager
def smtp_server(**options: Any) -> Iterator[SmtpServer]:
    """The options are aiosmtpd's. It serves until this is left, whoever stops and starts it meanwhile."""
    with reserved_port() as port:
        server = SmtpServer(port, **options)
        server.start()
        yield server
        server.stop()


def certificate(folder: Path, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, Path]:
    """What a server of this address proves itself with, and the file of its authority: its own."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))])
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file
