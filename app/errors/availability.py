"""What may work again soon."""

from app.errors.families import Unavailable


class HashingQueueFull(Unavailable):
    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class DatabaseUnavailable(Unavailable):
    """`reason` is for operators: the exception's class and SQLSTATE, without any data."""

    retry_after = 2

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WritesWait(DatabaseUnavailable):
    """The database answers, but this write waits for a lock or a standby, or for others that do."""


class NotReady(Unavailable):
    """The database answers, but the service cannot use it. `reason` is for operators."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MailNotConfigured(Unavailable):
    """The operator has to set SMTP_URL; `python -m app.cli doctor` says so."""

    code = "mail_not_configured"
    message = "This service cannot send mail"
    retry_after = 3600
