"""Reads and validates JSON bodies as FastAPI does, for endpoints that `direct` calls."""

import json
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from app.errors import PayloadTooLarge

MAX_BODY_BYTES: Final = 64 * 1024
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
