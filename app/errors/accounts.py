"""Accounts and passwords that the rules do not allow."""

from typing import ClassVar

from app.errors.families import Conflict, InvalidInput


class PasswordRefused(InvalidInput):
    """`field` is the name of the password's field in the request, `reason` is for programs."""

    reason: ClassVar[str]

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class PasswordTooShort(PasswordRefused):
    reason = "string_too_short"

    def __init__(self, min_length: int, field: str) -> None:
        super().__init__(field)
        self.min_length = min_length

    def __str__(self) -> str:
        return f"Password should have at least {self.min_length} characters"


class PasswordTooCommon(PasswordRefused):
    code = "password_too_common"
    message = "Password is easy to guess: a common one, or made of the email or the name of this service"
    reason = "password_too_common"


class InvalidLink(InvalidInput):
    """Of the token of a mail."""

    code = "invalid_link"
    message = "This link was used, has expired, or a newer one has replaced it"


class EmailTaken(Conflict):
    code = "email_taken"
    message = "Email already registered"


class LastAdmin(Conflict):
    code = "last_admin"
    message = "The last active admin cannot be demoted, disabled or deleted"
