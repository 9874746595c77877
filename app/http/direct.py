"""Calls simple endpoints directly, without FastAPI's routing and dependency resolution.

For each request, FastAPI matches the routes, opens exit stacks for the dependencies, and looks for their
path, query, header, cookie and body parameters. An endpoint whose dependencies take only the request, or
each other, needs none of this. FastAPI still creates its route and its part of the OpenAPI document.
A dependency with other parameters can have a method `from_request`, which is called here instead.
"""

from collections.abc import Awaitable, Callable, Iterable
from inspect import signature
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from fastapi import APIRouter, Request, Response, params
from pydantic import TypeAdapter
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.routing import Route, path_of

Respond = Callable[[Request, BaseException], Awaitable[Response]]


class _Step(NamedTuple):
    """A call, and for each of its parameters the index of the result to pass; index 0 is the request."""

    call: Callable[..., Awaitable[Any]]
    arguments: tuple[tuple[str, int], ...]


class _NeedsMore(Exception):
    """The route needs something that only FastAPI can provide."""


class _Plan:
    """The calls for one route, in the order of their dependencies."""

    def __init__(self, route: Route) -> None:
        self._steps: list[_Step] = []
        self._numbers: dict[Any, int] = {}
        if "{" in route.path:
            raise _NeedsMore
        for dependency in route.dependencies:
            self._add(dependency.dependency)
        self._add(route.endpoint)
        self._status_code = route.status_code or 200
        self._content = TypeAdapter(route.response_model)
        self.route = route

    async def respond(self, request: Request) -> Response:
        results: list[Any] = [request]
        for call, arguments in self._steps:
            results.append(await call(**{name: results[number] for name, number in arguments}))
        result = results[-1]
        if isinstance(result, Response):
            return result
        if result is None:
            return Response(status_code=self._status_code)
        content = self._content.dump_json(result)
        return Response(content, self._status_code, media_type="application/json")

    def _add(self, dependency: Any) -> int:
        if dependency not in self._numbers:
            call = getattr(dependency, "from_request", dependency)
            function = call if hasattr(call, "__name__") else type(call).__call__
            hints = get_type_hints(function, include_extras=True)
            arguments = [(name, self._number(hints[name])) for name in signature(call).parameters]
            self._steps.append(_Step(call, tuple(arguments)))
            self._numbers[dependency] = len(self._steps)
        return self._numbers[dependency]

    def _number(self, hint: Any) -> int:
        if hint is Request:
            return 0
        if get_origin(hint) is Annotated:
            for metadata in get_args(hint)[1:]:
                if isinstance(metadata, params.Depends):
                    return self._add(metadata.dependency)
        raise _NeedsMore


Plans = dict[tuple[str, str], _Plan]


class DirectMiddleware:
    """Answers requests that have a plan, and passes all others to FastAPI."""

    def __init__(self, app: ASGIApp, plans: Plans, respond: Respond) -> None:
        self._app = app
        self._plans = plans
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plan = self._plans.get((scope["method"], path_of(scope))) if scope["type"] == "http" else None
        if plan is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = plan.route
        request = Request(scope, receive)
        try:
            response = await plan.respond(request)
        except BaseException as error:  # noqa: BLE001 — `respond` decides which errors it handles
            response = await self._respond(request, error)
        await response(scope, receive, send)


def plan_routes(routers: Iterable[APIRouter]) -> Plans:
    """Keys are (method, path). Routes that need FastAPI have no plan."""
    plans: Plans = {}
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, Route):
            try:
                plan = _Plan(route)
            except _NeedsMore:
                continue
            methods = route.methods or set()
            head = {"HEAD"} if "GET" in methods else set()  # the server leaves the body out
            plans |= {(method, route.path): plan for method in methods | head}
    return plans
