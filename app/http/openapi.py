"""Corrections to the OpenAPI document that FastAPI generates."""

from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from app.config import Settings
from app.errors import HeadersTooLarge, RequestTimeout
from app.http.cookies import ACCESS_COOKIE, REFRESH_COOKIE
from app.schemas.errors import Problem, responses, status_of
from app.schemas.sessions import LoginForm, RefreshRequest

DESCRIPTION: Final = """
Accounts, sessions and tokens of the Kanban app.

**Try it:** register at `POST /api/v1/users/`, press *Authorize*, enter the email and the password, and call
`GET /api/v1/me`.

`POST /api/v1/token` is the login of our own frontend. It looks like OAuth 2.0's password grant, so that
Swagger UI and HTTP libraries can use it; it is no grant for third parties, which RFC 9700 §2.4 rules out.
"""
INFORMATION: Final[dict[str, Any]] = {
    "description": DESCRIPTION,
    "contact": {"name": "Whoever runs this service"},
    "license_info": {"name": "MIT", "identifier": "MIT"},
    "servers": [{"url": "/", "description": "Where no proxy adds a path of its own."}],
    "openapi_tags": [
        {"name": "users", "description": "Open an account, and see whose it is."},
        {"name": "sessions", "description": "Log in, stay signed in, and log out."},
        {"name": "my account", "description": "What users do with their own account."},
        {"name": "recovery", "description": "By links of mails: forgotten passwords, and emails to confirm."},
        {"name": "administration", "description": "For the role `admin`."},
        {"name": "siblings", "description": "For services and proxies beside this one."},
        {"name": "operations", "description": "For monitoring."},
    ],
}
SET_COOKIE: Final[dict[str, Any]] = {
    "Set-Cookie": {"description": "One for each cookie, unless they are off.", "schema": {"type": "string"}}
}
REFRESH_COOKIE_SCHEME: Final[dict[str, list[str]]] = {"RefreshCookie": []}
METRICS_SCHEME: Final[dict[str, list[str]]] = {"MetricsToken": []}
NEW_PASSWORDS: Final = (
    ("NewUser", "password"),
    ("AdminNewUser", "password"),
    ("PasswordChange", "new_password"),
    ("PasswordReset", "new_password"),
)
_OF_BODIES: Final[tuple[type[BaseModel], ...]] = (LoginForm, RefreshRequest, Problem)
_UNUSED: Final = ("HTTPValidationError", "ValidationError")


def one_body_of(forms: dict[str, type[BaseModel]], *, required: bool = False) -> dict[str, Any]:
    """`openapi_extra` of an endpoint that reads its body itself: by media type, what it is."""
    content: dict[str, Any] = {
        media: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
        for media, model in forms.items()
    }
    if not required:  # or Swagger UI would fill in a text for every field
        content["application/json"]["example"] = {}
    return {"requestBody": {"content": content, "required": required}}


def correct_openapi(app: FastAPI, settings: Settings) -> None:
    """Validation errors have status 400 instead of 422, and any request can be refused before its endpoint.

    Which cookies there are and how long passwords have to be is in the settings.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _correct(generate(), settings)
        return generate()  # which remembers it

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend it


def _correct(document: dict[str, Any], settings: Settings) -> None:
    before_routing = {str(status_of(error)): responses(error)[status_of(error)] for error in _BEFORE_ROUTING}
    for operation in (each for path in document["paths"].values() for each in path.values()):
        operation["responses"].pop("422", None)
        operation["responses"] |= before_routing
        operation["security"] = _security(operation, settings)
        contents = operation.get("requestBody", {}).get("content", {}).values()
        for each in [*contents, *operation.get("parameters", [])]:
            _make_plain(each["schema"])
    components = document["components"]
    schemas = components["schemas"]
    for unused in _UNUSED:
        schemas.pop(unused, None)
    schemas |= {model.__name__: model.model_json_schema() for model in _OF_BODIES}
    for schema, field in NEW_PASSWORDS:
        schemas[schema]["properties"][field]["minLength"] = settings.password_min_length
    components["schemas"] = {_plain(name): schemas[name] for name in sorted(schemas)}
    components["securitySchemes"] |= _schemes(settings)
    _mend(document)


_BEFORE_ROUTING: Final = (RequestTimeout, HeadersTooLarge)


def _security(operation: dict[str, Any], settings: Settings) -> list[dict[str, list[str]]]:
    """Empty where anybody may call; an empty one among others where those are one way of several."""
    needed: list[dict[str, list[str]]] = operation.get("security", [])
    if {"Password": []} in needed:
        cookies: list[dict[str, list[str]]] = [{"AccessCookie": []}]
        if REFRESH_COOKIE_SCHEME in needed:
            cookies.append(REFRESH_COOKIE_SCHEME)
        return [{"Bearer": []}, {"Password": []}, *(cookies if settings.auth_cookies else [])]
    is_open = METRICS_SCHEME in needed and settings.metrics_token is None
    return [{}, *needed] if is_open else needed


def _schemes(settings: Settings) -> dict[str, Any]:
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token."}
    if not settings.auth_cookies:
        return {"Bearer": bearer}
    cookie = {"type": "apiKey", "in": "cookie"}
    access = {
        "name": settings.cookie_prefix + ACCESS_COOKIE,
        "description": "A Bearer token wins.",
    }
    refresh = {
        "name": settings.cookie_prefix + REFRESH_COOKIE,
        "description": "A token in the body wins.",
    }
    return {"Bearer": bearer, "AccessCookie": cookie | access, "RefreshCookie": cookie | refresh}


def _make_plain(schema: dict[str, Any]) -> None:
    """Of what may be left out FastAPI says that it may be null, which no query and no header can be."""
    alternatives = schema.get("anyOf", [])
    if {"type": "null"} in alternatives:
        del schema["anyOf"]
        schema |= alternatives[0]


def _mend(node: Any) -> None:
    """A generated client could not read back what is `writeOnly`; its types have the schemas' names."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _mend(value)
    if not isinstance(node, dict):
        return
    if node.get("writeOnly") is True:
        del node["writeOnly"]
    for key in ("$ref", "title"):
        if isinstance(node.get(key), str):
            node[key] = _plain(node[key])


def _plain(name: str) -> str:
    return name.removesuffix("Out")
