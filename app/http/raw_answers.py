"""Answers to what never becomes a request of the application, as bytes."""

import json
from http import HTTPStatus

from app.errors import InvalidInput, ServiceError
from app.http.middleware.security_headers import SECURITY_HEADERS
from app.schemas.errors import status_of

Headers = list[tuple[bytes, bytes]]


def raw_answer(error: type[ServiceError], server_headers: Headers) -> bytes:
    """After it the connection is closed. `server_headers` are those that the server adds to every answer."""
    body = json.dumps({"detail": _detail(error), "code": error.code}).encode()
    status = HTTPStatus(status_of(error))
    headers: Headers = [
        *server_headers,
        *SECURITY_HEADERS,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, status.phrase.encode(), head, body)


def _detail(error: type[ServiceError]) -> object:
    if issubclass(error, InvalidInput):
        return [{"loc": [], "msg": "This is no HTTP request", "type": "http_invalid"}]
    return error.message
