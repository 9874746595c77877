"""One spelling per mailbox."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

MAX_EMAIL_LENGTH = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets


def normalize_email(raw: str) -> str:
    """Trimmed, lower case, the domain in its ASCII form (RFC 5890 A-labels).

    Raises ValueError, with a message fit for the person who typed it.
    """
    try:
        parsed = validate_email(raw.strip(), check_deliverability=False, test_environment=True, strict=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    local = unicodedata.normalize("NFC", parsed.local_part.lower())
    email = f"{local}@{parsed.ascii_domain.lower()}"
    if len(email.encode()) > MAX_EMAIL_LENGTH:
        raise ValueError("The email address is too long.")
    return email
