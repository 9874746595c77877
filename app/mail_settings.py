"""Settings of mail: the server that takes it, the sender, and where links lead."""

import re
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, DirectoryPath, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from app.setting_groups import EnvironmentSettings
from app.setting_types import BaseUrl, PagePath, in_production

_PORTS: Final = {"smtp": 587, "smtps": 465}
_SHAPE: Final = "looks like smtp://user:password@host:587?starttls=required, or smtps://host"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """`tls` is "implicit" from the first byte (smtps), by STARTTLS, or "off".

    `ca_file`, if given, has the only authorities that are trusted.
    """

    host: str
    port: int
    tls: Literal["implicit", "starttls", "off"]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    @classmethod
    def parse(cls, text: str, *, production: bool) -> "SmtpServer":
        """User and password are percent-decoded. Raises ValueError, without a part of the URL."""
        url = _split(text)
        options = dict(parse_qsl(url.query, keep_blank_values=True))
        starttls = options.pop("starttls", "required" if production else "off")
        ca_file = Path(options.pop("ca")) if options.get("ca") else None
        if options or starttls not in ("required", "off"):
            raise ValueError("the options are starttls=required, starttls=off and ca=FILE")
        if url.scheme == "smtps" and "starttls=" in url.query:
            raise ValueError("smtps:// is TLS from the first byte, and has no starttls=")
        if ca_file is not None and not ca_file.is_file():
            raise ValueError("there is no file of the name that ca= gives")
        if bool(url.username) != bool(url.password) or (url.username is not None and not url.username):
            raise ValueError("has a user and a password, or neither")
        tls: Literal["implicit", "starttls", "off"] = "starttls" if starttls == "required" else "off"
        return cls(
            url.hostname or "",
            url.port or _PORTS[url.scheme],
            "implicit" if url.scheme == "smtps" else tls,
            unquote(url.username) if url.username else None,
            unquote(url.password) if url.password else None,
            ca_file,
        )


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text.strip())
        host = url.hostname and not re.search(r"\s", url.netloc)
        usable = url.scheme in _PORTS and host and (url.port is None or url.port > 0)
    except ValueError:
        usable = False
    if not usable or url.path.strip("/") or url.fragment:
        raise ValueError(_SHAPE)
    return url


def _smtp_server(value: object, info: ValidationInfo) -> object:
    return SmtpServer.parse(value, production=in_production(info)) if isinstance(value, str) else value


def address_of(text: str) -> Address:
    """Of `Name <local@domain>` or `local@domain`, in ASCII. Raises ValueError."""
    named = re.fullmatch(r'"?([^"<>\r\n]*?)"? *<([!-~]+)>|([!-~]+)', text.strip())
    try:
        address = Address(named[1] or "", addr_spec=named[2] or named[3]) if named else Address()
    except (MessageError, ValueError, IndexError):
        address = Address()
    if not (address.username and address.domain):
        raise ValueError("looks like Kanban <no-reply@example.com>, with no character beyond ASCII in <>")
    return address


def _sender(value: str) -> str:
    address_of(value)
    return value.strip()


NOTICES: Final = (
    "password_changed",
    "email_changed",
    "new_device_login",
    "account_deleted",
    "refresh_token_reused",
    "recovery_used",
)
"""Each has a setting `notify_…`."""


class MailSettings(EnvironmentSettings):
    mail: bool = True
    frontend_url: BaseUrl | None = None
    mail_reset_path: PagePath = "/account/reset"
    mail_verify_path: PagePath = "/account/verify"
    mail_email_path: PagePath = "/account/email"
    mail_restore_path: PagePath = "/account/restore"
    mail_language: Literal["en", "de"] = "en"
    mail_templates: DirectoryPath | None = None
    mail_from: Annotated[str, AfterValidator(_sender)] | None = None
    smtp_url: Annotated[SmtpServer, NoDecode, BeforeValidator(_smtp_server)] | None = None

    notify_password_changed: bool = True
    notify_email_changed: bool = True
    notify_new_device_login: bool = True
    notify_account_deleted: bool = True
    notify_refresh_token_reused: bool = True
    notify_recovery_used: bool = True
    require_verified_email: bool = False
    access_token_email: bool = False

    @property
    def unwanted_notices(self) -> frozenset[str]:
        return frozenset(notice for notice in NOTICES if not getattr(self, f"notify_{notice}"))

    @field_validator("require_verified_email")
    @classmethod
    def _with_mail(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 — a validator's value
        """Or nobody who registers could ever log in."""
        told = "smtp_url" not in info.data  # of what is wrong with it
        sends = info.data.get("mail") and (told or info.data["smtp_url"] or not in_production(info))
        if value and not sends:
            raise ValueError("needs mail: set SMTP_URL")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _with_what_mails_need(cls, value: SmtpServer | None, info: ValidationInfo) -> SmtpServer | None:
        """A link that leads to localhost would be of no use to anybody."""
        if not in_production(info) or value is None:
            return value
        if "mail_from" in info.data and info.data["mail_from"] is None:
            raise ValueError("needs MAIL_FROM, such as Kanban <no-reply@example.com>")
        if info.data.get("frontend_url") is None and info.data.get("public_url") is None:
            raise ValueError("needs FRONTEND_URL or PUBLIC_URL, as links in mails begin with it")
        return value
