"""Reads and validates JSON bodies as FastAPI does, for endpoints that `direct` calls; forms in UTF-8."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from app.errors import PayloadTooLarge

MAX_BODY_BYTES: Final = 64 * 1024
_URL_ENCODED: Final = "application/x-www-form-urlencoded"
_RAW_BYTE: Final = re.compile(rb"[\x80-\xff]")
_UNREADABLE: Final = "There was an error parsing the body"

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


async def json_body(request: Request, model: type[M]) -> M | None:
    """None if there is no body. Raises RequestValidationError, HTTPException, PayloadTooLarge."""
    content: object = await _read(request)
    if not content:
        return None
    assert isinstance(content, bytes)
    if _is_json(request.headers.get("content-type", "")):
        content = _parse(content)
    if content is None:
        return None
    return validated(partial(model.model_validate, from_attributes=True), content, "body")


async def utf8_form(request: Request) -> Request:
    """The same request with a body that Starlette decodes as UTF-8 throughout.

    Starlette takes raw bytes of a URL-encoded form for Latin-1, and replaces what is not UTF-8 by U+FFFD.
    Raises RequestValidationError, HTTPException, PayloadTooLarge.
    """
    content = text = await _read(request)
    if request.headers.get("content-type", "").lower().startswith(_URL_ENCODED):
        content = _RAW_BYTE.sub(lambda byte: b"%%%02X" % ord(byte[0]), content)
        text = unquote_to_bytes(content)
    try:
        text.decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "The form is not UTF-8") from None
    unread = [content]

    async def receive() -> Message:
        return {"type": "http.request", "body": unread.pop()} if unread else await request.receive()

    return Request(request.scope, receive)


def validated(validate: Callable[[object], T], value: object, *location: str) -> T:
    """Raises RequestValidationError."""
    try:
        return validate(value)
    except ValidationError as error:
        problems = [{**each, "loc": (*location, *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(problems) from None


async def _read(request: Request) -> bytes:
    content = b""
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > MAX_BODY_BYTES:
                raise PayloadTooLarge
    except ClientDisconnect:
        raise HTTPException(400, _UNREADABLE) from None
    return content


def _is_json(content_type: str) -> bool:
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _parse(content: bytes) -> object:
    try:
        value: object = json.loads(content)
    except json.JSONDecodeError as error:
        problem = {"loc": ("body", error.pos), "msg": "JSON decode error", "type": "json_invalid"}
        raise RequestValidationError([problem]) from None
    except (ValueError, RecursionError):
        raise HTTPException(400, _UNREADABLE) from None
    return value
