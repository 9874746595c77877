"""The head of a request: how large it may be, and what else would be wrong with it."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import HeadersTooLarge, InvalidInput, PayloadTooLarge, ServiceError
from app.http.bodies import MAX_BODY_BYTES

MAX_HEAD_BYTES: Final = 32 * 1024
_MAX_HEADERS: Final = 100

Fault = tuple[type[ServiceError], str]
"""The error to answer with, and the reason to count it under, one of HTTP_REFUSALS."""


def fault_of_head(protocol: HttpToolsProtocol, *, may_be_large: bool) -> Fault | None:
    """Of the head that its parser has just read."""
    headers = protocol.headers
    if len(headers) > _MAX_HEADERS:
        return HeadersTooLarge, "too_many_headers"
    if may_be_large and _size(protocol) > MAX_HEAD_BYTES:
        return HeadersTooLarge, "headers_too_large"
    if sum(name == b"host" for name, _ in headers) > 1:  # RFC 9112 §3.2
        return InvalidInput, "malformed"
    if protocol.expect_100_continue and _declares_excess(headers):
        return PayloadTooLarge, "body_too_large"
    return None


def _size(protocol: HttpToolsProtocol) -> int:
    fields = sum(len(name) + len(value) + len(": \r\n") for name, value in protocol.headers)
    return len(protocol.parser.get_method()) + len(protocol.url) + len("  HTTP/1.1\r\n\r\n") + fields


def _declares_excess(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-length" and int(value) > MAX_BODY_BYTES for name, value in headers)
