"""Corrections to the OpenAPI document that FastAPI generates."""

from typing import Any, Final

from fastapi import FastAPI

from app.errors import HeadersTooLarge, RequestTimeout, ServiceError
from app.schemas.errors import ErrorBody, responses, status_of

DESCRIPTION: Final = """
Accounts, sessions and tokens of the Kanban app.

**Try it:** register at `POST /api/v1/users/`, press *Authorize*, enter the email and the password, and call
`GET /api/v1/me`.

`POST /api/v1/token` is the login of our own frontend. It looks like OAuth 2.0's password grant, so that
Swagger UI and HTTP libraries can use it; it is no grant for third parties, which RFC 9700 §2.4 rules out.
"""
TAGS: Final = ("users", "sessions", "my account", "administration", "siblings", "operations")
NEW_PASSWORDS: Final = (
    ("NewUser", "password"),
    ("AdminNewUser", "password"),
    ("PasswordChange", "new_password"),
)


def correct_openapi(app: FastAPI, *, password_min_length: int) -> None:
    """Validation errors have status 400 instead of 422; the minimum length of new passwords is a setting.

    Any request can be refused before it reaches an endpoint.
    """
    generate = app.openapi
    before_routing = {str(status_of(error)): _response(error) for error in (RequestTimeout, HeadersTooLarge)}

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = generate()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"] |= before_routing
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for schema, field in NEW_PASSWORDS:
            schemas[schema]["properties"][field]["minLength"] = password_min_length
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend it


def _response(error: type[ServiceError]) -> dict[str, Any]:
    response = responses(error)[status_of(error)]
    content = response["content"]["application/json"]
    schema = {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}
    return {
        "description": response["description"],
        "content": {"application/json": {"schema": schema, **content}},
    }
