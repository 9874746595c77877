"""The families of errors; each has an HTTP status in `schemas/errors`."""

from typing import ClassVar


class ServiceError(Exception):
    """`code` is for programs and never changes; `message` is for people."""

    code: ClassVar[str]
    message: ClassVar[str]

    def __str__(self) -> str:
        return self.message


class InvalidInput(ServiceError):
    code = "validation_error"
    message = "The request is not valid"


class Unauthenticated(ServiceError):
    pass


class Forbidden(ServiceError):
    code = "forbidden"
    message = "Not allowed"


class NotFound(ServiceError):
    code = "not_found"
    message = "Not found"


class MethodNotAllowed(ServiceError):
    code = "method_not_allowed"
    message = "Method not allowed"


class Conflict(ServiceError):
    pass


class PayloadTooLarge(ServiceError):
    code = "payload_too_large"
    message = "Request body too large"


class TooManyRequests(ServiceError):
    """The next attempt is allowed after `retry_after` seconds; if it is None, no wait helps.

    `bucket` is for operators.
    """

    code = "too_many_requests"
    message = "Too many attempts, try again later"

    def __init__(self, bucket: str, retry_after: int | None) -> None:
        super().__init__(bucket, retry_after)
        self.bucket = bucket
        self.retry_after = retry_after


class RequestTimeout(ServiceError):
    code = "request_timeout"
    message = "The request did not come in time"


class HeadersTooLarge(ServiceError):
    code = "headers_too_large"
    message = "Request headers too large, or too many"


class InternalError(ServiceError):
    code = "internal_error"
    message = "Internal server error"


class ClientLeft(ServiceError):
    """Nobody hears the answer."""

    code = "client_left"
    message = "The client has closed the connection"


class Unavailable(ServiceError):
    """`retry_after` is in seconds."""

    code = "unavailable"
    message = "Temporarily unavailable, try again shortly"
    retry_after: int = 1
