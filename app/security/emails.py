"""Email addresses in a normalized form, so that each mailbox has one spelling."""

import unicodedata

from app.setting_bootstrap import parse_email

MAX_EMAIL_LENGTH = 254  # RFC 5321 §4.5.3.1.3, without the angle brackets


def normalize_email(raw: str) -> str:
    """Trimmed and in lower case, with the domain in ASCII (A-labels, RFC 5890 §2.3.2.1).

    Raises ValueError with a message that can be shown to the user.
    """
    return _normalized(raw, private=True)


def normalize_public_email(raw: str) -> str:
    """Of whoever opens or moves an account themselves: no domain of a private network, such as `.local`.

    Raises ValueError as `normalize_email` does.
    """
    return _normalized(raw, private=False)


def _normalized(raw: str, *, private: bool) -> str:
    parsed = parse_email(raw, private=private)
    local = unicodedata.normalize("NFC", parsed.local.lower())
    email = f"{local}@{parsed.domain.lower()}"
    if len(email.encode()) > MAX_EMAIL_LENGTH:
        raise ValueError("The email address is too long.")
    return email
