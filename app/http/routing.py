"""The route class of the API."""

from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any

from fastapi import Request, Response, params
from fastapi.routing import APIRoute
from starlette.types import Scope

from app.greenlets import as_coroutine_function
from app.http.bodies import utf8_form


def path_of(scope: Scope) -> str:
    """Without the root path, which the path of an ASGI scope begins with."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Route(APIRoute):
    """Runs a plain `def` endpoint in a greenlet, where it can wait for the database or for a hash.

    FastAPI would run it in a thread.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not iscoroutinefunction(endpoint):
            endpoint = as_coroutine_function(endpoint)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None or not isinstance(self.body_field.field_info, params.Form):
            return handle

        async def handle_form(request: Request) -> Response:
            return await handle(await utf8_form(request))

        return handle_form
