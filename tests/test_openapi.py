"""The document that clients are generated from, held against the service itself."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support import Api, bearer

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="session")
def document(api: Api) -> dict[str, Any]:
    document: dict[str, Any] = api.http.get("/openapi.json").json()
    return document


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_api_is_what_the_design_says(document: dict[str, Any]) -> None:
    assert {name: (operation["operationId"], sorted(operation["responses"]))
            for name, operation in operations(document).items()} == {
        "POST /api/v1/users/": ("register_user", ["201", "400", "409", "413", "500", "503"]),
        "GET /api/v1/me": ("read_current_user", ["200", "401", "500", "503"]),
        "POST /api/v1/token": ("create_token", ["200", "400", "401", "413", "500", "503"]),
        "POST /api/v1/refresh": ("refresh_token", ["200", "400", "401", "403", "413", "500", "503"]),
        "POST /api/v1/logout": ("log_out", ["204", "400", "401", "403", "413", "500", "503"]),
        "GET /api/v1/health": ("read_health", ["200", "500", "503"]),
        "GET /api/v1/health/live": ("read_liveness", ["200", "500"]),
        "GET /health": ("read_health_at_root", ["200", "500", "503"]),
        "GET /metrics": ("read_metrics", ["200", "401", "500"]),
    }  # fmt: skip


def test_422_appears_nowhere(api: Api) -> None:
    text = api.http.get("/openapi.json").text

    assert "422" not in text
    assert "HTTPValidationError" not in text


def test_every_operation_is_described_with_a_schema_and_an_example_for_each_answer(
    document: dict[str, Any],
) -> None:
    for name, operation in operations(document).items():
        assert operation["tags"], name
        assert operation["summary"], name
        for status, response in operation["responses"].items():
            if (name, status) in (("POST /api/v1/logout", "204"), ("GET /metrics", "200")):
                continue
            content = response["content"]["application/json"]
            assert content["schema"], (name, status)
            schema = document["components"]["schemas"].get(
                content["schema"].get("$ref", "").split("/")[-1], {}
            )
            assert content.get("examples") or has_examples(schema), (name, status)


def has_examples(schema: dict[str, Any]) -> bool:
    return all(
        "examples" in field
        or "default" in field
        or "const" in field
        or field.get("type") == "boolean"
        or field.get("format") == "date-time"
        for field in schema["properties"].values()
    )


def test_the_minimum_length_of_a_password_is_documented(document: dict[str, Any]) -> None:
    password = document["components"]["schemas"]["NewUser"]["properties"]["password"]

    assert (password["minLength"], password["maxLength"]) == (8, 1024)


def test_authorize_asks_for_email_and_password(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["Password"]

    assert scheme["type"] == "oauth2"
    assert scheme["flows"] == {"password": {"scopes": {}, "tokenUrl": "api/v1/token"}}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_needs_no_internet(api: Api, path: str) -> None:
    page = api.http.get(path).text

    assets = [part.split('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]]
    assert assets
    for asset in assets:
        assert asset.startswith("/"), asset
        assert api.http.get(asset).status_code == 200
    assert "cdn" not in page


def test_the_root_leads_to_the_documentation(api: Api) -> None:
    response = api.http.get("/")

    assert response.is_redirect
    assert api.http.get("/" + response.headers["location"]).status_code == 200


OPERATIONS = [
    ("POST", "/api/v1/users/"),
    ("GET", "/api/v1/me"),
    ("POST", "/api/v1/token"),
    ("POST", "/api/v1/refresh"),
    ("POST", "/api/v1/logout"),
    ("GET", "/api/v1/health"),
    ("GET", "/api/v1/health/live"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]


def test_every_operation_is_fuzzed(document: dict[str, Any]) -> None:
    assert {f"{method} {path}" for method, path in OPERATIONS} == set(operations(document))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("signed_in", [False, True], ids=["a stranger", "a user"])
def test_no_input_at_all_leads_out_of_the_document(
    api: Api, document: dict[str, Any], method: str, path: str, *, signed_in: bool
) -> None:
    operation = schemathesis.openapi.from_dict(document)[path][method]
    headers = bearer(api.log_in()["access_token"]) if signed_in else {}
    modes = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=GenerationMode.NEGATIVE
    )

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=modes)
    def fuzz(case: Any) -> None:
        case.call_and_validate(base_url=api.base_url, headers=headers, checks=CHECKS)

    fuzz()
