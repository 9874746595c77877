"""The route class of the API."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from fastapi.routing import APIRoute

from app.greenlets import as_coroutine_function


class Route(APIRoute):
    """Runs a plain `def` endpoint in a greenlet, where it can wait for the database or for a hash.

    FastAPI would run it in a thread.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not iscoroutinefunction(endpoint):
            endpoint = as_coroutine_function(endpoint)
        super().__init__(path, endpoint, **options)
