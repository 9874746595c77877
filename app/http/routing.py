"""The route classes of the API."""

from collections.abc import Callable, Coroutine
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final

from fastapi import Request, Response, params
from fastapi.routing import APIRoute
from starlette.types import Scope

from app.greenlets import CLIENT_LEAVES, as_coroutine_function
from app.http.bodies import MAX_BODY_BYTES, utf8_form
from app.http.half_closed import until_client_sends_no_more

ASKED_BY_PROXIES: Final = "/api/v1/verify"
"""Whatever is 2xx there lets a request pass."""


def path_of(scope: Scope) -> str:
    """Without the root path, which the path of an ASGI scope begins with."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class LimitedRoute(APIRoute):
    """Has the limit of a body and a name of its own, so that the application can take it as it is.

    With `include_router`, FastAPI analyses every endpoint again for each application, for 80 ms.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        options |= {"max_body_size": MAX_BODY_BYTES, "generate_unique_id_function": _name_of}
        super().__init__(path, endpoint, **options)


def _name_of(route: APIRoute) -> str:
    return route.name


class Route(LimitedRoute):
    """Runs a plain `def` endpoint in a greenlet, where it can wait for the database or for a hash.

    FastAPI would run it in a thread. What waits for a hash hears when the client leaves.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not iscoroutinefunction(endpoint):
            endpoint = as_coroutine_function(endpoint)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        has_form = self.body_field is not None and isinstance(self.body_field.field_info, params.Form)

        async def handle(request: Request) -> Response:
            hear_when_client_leaves(request)
            return await handler(await utf8_form(request) if has_form else request)

        return handle


def hear_when_client_leaves(request: Request) -> None:
    """For what waits for a hash, until the request's task ends."""
    CLIENT_LEAVES.set(partial(until_client_sends_no_more, request))
