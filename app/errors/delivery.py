"""The feed of revocations."""

from app.errors.families import InvalidInput, ServiceError


class InvalidCursor(InvalidInput):
    message = "Not a cursor of this feed"


class CursorExpired(ServiceError):
    """The database has another history since, as after a failover or a restore."""

    code = "cursor_expired"
    message = "The cursor is of another history of the database; start over without it"
