"""The feed of revocations, and mail."""

from app.errors.families import InternalError, InvalidInput, ServiceError


class InvalidCursor(InvalidInput):
    message = "Not a cursor of this feed"


class CursorExpired(ServiceError):
    """The database has another history since, as after a failover or a restore."""

    code = "cursor_expired"
    message = "The cursor is of another history of the database; start over without it"


class UnusableMailTemplate(InternalError):
    """`file` is below MAIL_TEMPLATES; `reason` is for operators."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.file = file
        self.reason = reason

    def __str__(self) -> str:
        return f"MAIL_TEMPLATES: {self.file}: {self.reason}"
