"""Accounts and passwords that the rules do not allow."""

from app.errors.families import Conflict, InvalidInput


class PasswordTooShort(InvalidInput):
    """`field` is the name of the password's field in the request."""

    def __init__(self, min_length: int, field: str) -> None:
        super().__init__(min_length, field)
        self.min_length = min_length
        self.field = field

    def __str__(self) -> str:
        return f"Password should have at least {self.min_length} characters"


class EmailTaken(Conflict):
    code = "email_taken"
    message = "Email already registered"


class LastAdmin(Conflict):
    code = "last_admin"
    message = "The last active admin cannot be demoted, disabled or deleted"
