"""The service's own pages, where links of mails lead if no frontend has such pages.

They need no script and load nothing. Opening one spends no token, as scanners of mails open links too.
"""

import base64
import hashlib
import json
import tomllib
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, Form, Query, Request, Response
from pydantic import Field

from app.http.dependencies import container_of, cookies_of
from app.http.error_handlers import respond_to
from app.http.routing import Route
from app.services.delivery.languages import language_of

if TYPE_CHECKING:
    from jinja2 import Template

_FOLDER: Final = Path(__file__).parents[1] / "templates" / "pages"
_STYLE: Final = (_FOLDER / "style.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Content-Type": "text/html; charset=utf-8",
}
_NO_SECOND_TRY: Final = ("invalid_link", "email_taken", "cross_site_request")


@cache
def words_in(language: str) -> dict[str, dict[str, str]]:
    """By the name of the page; also of `every_page`, and of `problems` by the code of the error."""
    return tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 — 2 MiB until the first page or mail

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((_FOLDER / "page.html").read_text(encoding="utf-8"))


class AccountPage:
    """The page that a request is about, in its language."""

    def __init__(self, request: Request) -> None:
        settings = container_of(request).settings
        self._language = language_of(request.headers.get("accept-language"), settings.mail_language)
        self._name = request.url.path.rpartition("/")[2]
        words = words_in(self._language)
        self._words = words[self._name] | words["every_page"]
        self._problems = words["problems"]
        self._min_length = settings.password_min_length
        self._frontend_url = settings.frontend_url

    def ask(self, token: str) -> Response:
        return Response(self._render("title", text=self._words["text"], token=token), headers=_HEADERS)

    def done(self) -> Response:
        return Response(self._render("done_title", text=self._words["done"]), headers=_HEADERS)

    def say(self, error: Response, token: str | None) -> Response:
        """`error` is the answer that the API gives. With the form again if another try may help."""
        code = json.loads(bytes(error.body))["code"]
        if token is None and code == "validation_error":
            code = "invalid_link"
        problem = self._problems.get(code, self._problems["internal_error"]).format(self._min_length)
        if token is not None and code not in _NO_SECOND_TRY:
            page = self._render("title", problem=problem, text=self._words["text"], token=token)
        elif code == "invalid_link":
            page = self._render("problem_title", problem=problem, text=self._words["again"])
        else:
            page = self._render("problem_title", problem=problem)
        kept = {name: value for name, value in error.headers.items() if name == "retry-after"}
        return Response(page, error.status_code, _HEADERS | kept)

    def _render(self, title: str, **shown: str) -> str:
        """`shown` are problem, text, and the token of a form."""
        return _template().render(
            self._words,
            shown=shown,
            title=self._words[title],
            language=self._language,
            action=self._name,
            style=_STYLE,
            min_length=self._min_length,
            frontend_url=self._frontend_url,
        )


class PageRoute(Route):
    """Says in the page what the API says in JSON, with the same status."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # noqa: BLE001 — `respond_to` knows all of them
                answer = await respond_to(request, error)
                return AccountPage(request).say(answer, getattr(request.state, "link_token", None))

        return handle


async def _page(request: Request) -> AccountPage:
    return AccountPage(request)


_Token = Field(min_length=1, max_length=200)


async def _token_of_link(token: Annotated[str, Query(), _Token]) -> str:
    return token


async def _token_of_form(request: Request, token: Annotated[str, Form(), _Token]) -> str:
    """Raises CrossSiteRequest.

    Where pages send no referrer, browsers give `null` for their Origin. What most of them say besides,
    in Sec-Fetch-Site, they leave out by http outside of localhost.
    """
    headers, cookies = request.headers, cookies_of(request)
    says_no_more = headers.get("origin") == "null" and "sec-fetch-site" not in headers
    if cookies.is_cross_site() and not says_no_more:
        raise cookies.cross_site_request()
    request.state.link_token = token
    return token


AccountPageDep = Annotated[AccountPage, Depends(_page)]
TokenOfLink = Annotated[str, Depends(_token_of_link)]
TokenOfForm = Annotated[str, Depends(_token_of_form)]
