"""Email addresses in a normalized form, so that each mailbox has one spelling."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

MAX_EMAIL_LENGTH = 254  # RFC 5321 §4.5.3.1.3, without the angle brackets


def normalize_email(raw: str) -> str:
    """Trimmed and in lower case, with the domain in ASCII (A-labels, RFC 5890 §2.3.2.1).

    Raises ValueError with a message that can be shown to the user.
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
