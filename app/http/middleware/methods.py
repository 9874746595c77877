import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.routing import ASKED_BY_PROXIES, path_of

Respond = Callable[[Request, BaseException], Awaitable[Response]]


@dataclass
class _Path:
    route: Any
    pattern: re.Pattern[str]
    methods: set[str] = field(default_factory=set)

    def allow(self) -> str:
        """The value of the Allow header (RFC 9110 §10.2.1)."""
        head = {"HEAD"} if "GET" in self.methods else set()
        options = {"OPTIONS"} if self.has_options else set()
        return ", ".join(sorted(self.methods | head | options))

    @property
    def has_options(self) -> bool:
        """A proxy that asks with the client's method would let an OPTIONS request without a token pass."""
        return bool(self.route.path != ASKED_BY_PROXIES)


class _Paths:
    """The paths of all routes; one without parameters comes before those that it could be a value of."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._paths: dict[str, _Path] = {}
        for route in routes:
            if isinstance(route, Route) and route.methods:
                path = self._paths.setdefault(route.path, _Path(route, route.path_regex))
                path.methods |= route.methods
        self._with_parameters = [path for name, path in self._paths.items() if "{" in name]

    def find(self, path: str) -> _Path | None:
        if path in self._paths:
            return self._paths[path]
        return next((each for each in self._with_parameters if each.pattern.match(path)), None)


class MethodsMiddleware:
    """Answers what depends on the method and not on the endpoint.

    HEAD is GET without the body, and ends a stream at its beginning. OPTIONS and 405 name all methods of the
    path; FastAPI's 405 names those of one of its routes. A slash too many or too few is redirected by a
    relative reference: the host that a client names is not to be trusted, and a proxy may have a longer path.
    """

    def __init__(self, app: ASGIApp, respond: Respond) -> None:
        self._app = app
        self._respond = respond
        self._paths: _Paths | None = None  # not known before the application is complete

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._paths is None:
            self._paths = _Paths(scope["app"].routes)
        path, method = path_of(scope), scope["method"]
        if path.endswith(
            "\n"
        ):  # `$` in Starlette's patterns matches before it, so a proxy's rule could be evaded
            await (await self._respond(Request(scope, receive), HTTPException(404)))(scope, receive, send)
            return
        if (found := self._paths.find(path)) is not None:
            scope["route"] = found.route  # Starlette's own routes do not say so
        if found is None and self._paths.find(_other_slash(path)) is not None:
            url = _relative(path, scope["query_string"])
            await RedirectResponse(url)(scope, receive, send)
        elif found is None or method in found.methods:
            await self._app(scope, receive, send)
        elif method == "HEAD" and "GET" in found.methods:
            await self._get(scope, receive, send)
        else:
            scope["route"] = found.route
            response = await self._refuse(found, Request(scope, receive))
            await response(scope, receive, send)

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({"type": "http.response.body"})
            if message.get("more_body"):
                raise _AnsweredError

        get = {**scope, "method": "GET"}
        try:
            await self._app(get, receive, send_head)
        except* _AnsweredError:
            pass
        finally:
            scope["route"] = get.get("route")  # the outer middleware reads it

    async def _refuse(self, found: _Path, request: Request) -> Response:
        allow = {"Allow": found.allow()}
        if request.method == "OPTIONS" and found.has_options:
            return Response(status_code=204, headers=allow)
        return await self._respond(request, HTTPException(405, headers=allow))


class _AnsweredError(Exception):
    """Ends the endpoint of a stream that nobody reads; a task group may wrap it."""


def _other_slash(path: str) -> str:
    return path.removesuffix("/") if path.endswith("/") else path + "/"


def _relative(path: str, query: bytes) -> str:
    """RFC 3986 §4.2: from `a/b` to `a/b/`, or the other way."""
    *_, folder, last = path.split("/")
    url = f"./{quote(last)}/" if last else f"../{quote(folder)}"
    return f"{url}?{query.decode('latin-1')}" if query else url
