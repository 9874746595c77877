"""The document that clients are generated from, held against the service itself."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from app.cli.running import OPERATOR
from app.http.openapi import NEW_PASSWORDS
from app.models.users import Role
from tests.openapi import FILE, document_text
from tests.support import Api, MakeService, bearer, error_of
from tests.support.mailboxes import sending
from tests.support.siblings import Sibling
from tests.support.smtp import SmtpServer
from tests.test_routes import ADMIN, PUBLIC, SIBLING, USER

OF_ANY = {"408", "431"}
"""Statuses that any request can be refused with before it reaches an endpoint."""


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


def test_the_document_has_the_operations_and_answers_of_the_design(document: dict[str, Any]) -> None:
    assert all(operation["responses"].keys() >= OF_ANY for operation in operations(document).values())
    assert {name: (operation["operationId"], sorted(operation["responses"].keys() - OF_ANY))
            for name, operation in operations(document).items()} == {
        "POST /api/v1/users/": ("register_user", ["201", "400", "409", "413", "429", "500", "503"]),
        "GET /api/v1/me": ("read_current_user", ["200", "401", "500", "503"]),
        "PUT /api/v1/me/password": (
            "change_password", ["200", "204", "400", "401", "403", "413", "429", "500", "503"],
        ),
        "PUT /api/v1/me/email": (
            "change_email", ["202", "400", "401", "403", "409", "413", "429", "500", "503"],
        ),
        "POST /api/v1/me/email/verification": (
            "send_verification", ["202", "204", "401", "403", "429", "500", "503"],
        ),
        "POST /api/v1/password/forgot": ("forgot_password", ["202", "400", "413", "429", "500", "503"]),
        "POST /api/v1/password/reset": ("reset_password", ["204", "400", "413", "500", "503"]),
        "POST /api/v1/email/verify": ("verify_email", ["204", "400", "409", "413", "500", "503"]),
        "POST /api/v1/email/restore": ("restore_email", ["204", "400", "409", "413", "500", "503"]),
        "POST /api/v1/me/delete": (
            "delete_account", ["204", "400", "401", "403", "409", "413", "429", "500", "503"],
        ),
        "GET /api/v1/me/sessions": ("list_sessions", ["200", "400", "401", "403", "500", "503"]),
        "DELETE /api/v1/me/sessions": ("end_other_sessions", ["204", "401", "403", "500", "503"]),
        "GET /api/v1/me/sessions/ended": ("list_ended_sessions", ["200", "401", "403", "500", "503"]),
        "DELETE /api/v1/me/sessions/{session_id}": (
            "end_session", ["204", "400", "401", "403", "404", "500", "503"],
        ),
        "POST /api/v1/token": ("create_token", ["200", "400", "401", "403", "413", "429", "500", "503"]),
        "POST /api/v1/refresh": ("refresh_token", ["200", "400", "401", "403", "413", "500", "503"]),
        "POST /api/v1/logout": ("log_out", ["204", "400", "401", "403", "413", "500", "503"]),
        "GET /api/v1/admin/users": ("list_users", ["200", "400", "401", "403", "500", "503"]),
        "POST /api/v1/admin/users": (
            "create_user", ["201", "400", "401", "403", "409", "413", "500", "503"],
        ),
        "GET /api/v1/admin/users/{user_id}": (
            "read_user", ["200", "400", "401", "403", "404", "500", "503"],
        ),
        "PATCH /api/v1/admin/users/{user_id}": (
            "change_user", ["200", "400", "401", "403", "404", "409", "413", "500", "503"],
        ),
        "DELETE /api/v1/admin/users/{user_id}": (
            "delete_user", ["204", "400", "401", "403", "404", "409", "500", "503"],
        ),
        "PATCH /api/v1/admin/users/{user_id}/role": (
            "change_role", ["200", "400", "401", "403", "404", "409", "413", "500", "503"],
        ),
        "POST /api/v1/admin/users/{user_id}/password-reset": (
            "start_password_reset", ["202", "400", "401", "403", "404", "500", "503"],
        ),
        "GET /api/v1/admin/users/{user_id}/sessions": (
            "list_sessions_of", ["200", "400", "401", "403", "404", "500", "503"],
        ),
        "DELETE /api/v1/admin/users/{user_id}/sessions": (
            "end_sessions_of", ["204", "400", "401", "403", "404", "500", "503"],
        ),
        "GET /api/v1/admin/audit": ("list_audit_events", ["200", "400", "401", "403", "500", "503"]),
        "GET /health": ("read_health_at_root", ["200", "500", "503"]),
        "GET /api/v1/health": ("read_health", ["200", "500", "503"]),
        "GET /api/v1/health/live": ("read_liveness", ["200", "500"]),
        "GET /api/v1/admin/keys": ("list_keys", ["200", "401", "403", "500", "503"]),
        "POST /api/v1/admin/keys/prepare": (
            "prepare_key", ["200", "400", "401", "403", "413", "500", "503"],
        ),
        "POST /api/v1/admin/keys/rotate": ("rotate_key", ["200", "400", "401", "403", "413", "500", "503"]),
        "POST /api/v1/admin/keys/rewrap": ("rewrap_keys", ["200", "401", "403", "500", "503"]),
        "POST /api/v1/admin/keys/{kid}/revoke": (
            "revoke_key", ["200", "400", "401", "403", "404", "413", "500", "503"],
        ),
        "GET /.well-known/jwks.json": ("read_key_set", ["200", "304", "500", "503"]),
        "GET /.well-known/oauth-authorization-server": ("read_server_metadata", ["200", "404", "500"]),
        "GET /metrics": ("read_metrics", ["200", "401", "403", "500", "503"]),
        "GET /api/v1/verify": ("verify", ["204", "400", "401", "403", "500", "503"]),
        "POST /api/v1/introspect": ("introspect", ["200", "400", "401", "403", "413", "500", "503"]),
        "GET /api/v1/revocations": (
            "read_revocations", ["200", "400", "401", "403", "410", "500", "503"],
        ),
    }  # fmt: skip


def test_the_document_has_no_422(api: Api) -> None:
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
            if status in ("202", "204", "304") or (name, status) == ("GET /metrics", "200"):
                continue
            content = response["content"]["application/json"]
            assert content["schema"], (name, status)
            if status >= "400" and (name, status) not in UNHEALTHY:
                assert_describes_an_error(content)
                continue
            for schema in content["schema"].get("anyOf", [content["schema"]]):
                reference = (schema.get("items") or schema)["$ref"].split("/")[-1]
                described = document["components"]["schemas"].get(reference, {})
                assert content.get("examples") or has_examples(described), (name, status)


UNHEALTHY = {("GET /health", "503"), ("GET /api/v1/health", "503")}


def assert_describes_an_error(content: dict[str, Any]) -> None:
    """Its code is one of those that the examples show."""
    properties = content["schema"]["properties"]
    assert content["schema"]["required"] == list(properties)
    assert properties["code"]["enum"] == list(content["examples"])
    for code, example in content["examples"].items():
        assert example["value"]["code"] == code
        assert example["value"].keys() == properties.keys()


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
    schemas = document["components"]["schemas"]

    for schema, field in NEW_PASSWORDS:
        password = schemas[schema]["properties"][field]
        assert (password["minLength"], password["maxLength"]) == (8, 1024)


def test_authorize_asks_for_email_and_password(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["Password"]

    assert scheme["type"] == "oauth2"
    assert scheme["flows"] == {"password": {"scopes": {}, "tokenUrl": "api/v1/token"}}


OTHER_WAYS_IN: dict[str, list[dict[str, list[str]]]] = {
    "GET /metrics": [{}, {"MetricsToken": []}],  # nobody needs it where METRICS_TOKEN is unset
    "POST /api/v1/logout": [{"Bearer": []}, {"Password": []}, {"AccessCookie": []}, {"RefreshCookie": []}],
}


def test_who_may_call_is_documented(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        schemes = [scheme for alternative in operation["security"] for scheme in alternative]
        if name in OTHER_WAYS_IN:
            assert operation["security"] == OTHER_WAYS_IN[name]
        elif name in USER | ADMIN:
            assert schemes == ["Bearer", "Password", "AccessCookie"], name
        elif name in PUBLIC:
            assert operation["security"] == [], name
    schemes = document["components"]["securitySchemes"]
    assert (schemes["Bearer"]["type"], schemes["Bearer"]["scheme"]) == ("http", "bearer")
    for scheme, cookie in (("AccessCookie", "access_token"), ("RefreshCookie", "refresh_token")):
        found = schemes[scheme]
        assert (found["type"], found["in"], found["name"]) == ("apiKey", "cookie", cookie)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in schemes)


def test_the_cookie_has_the_name_that_the_settings_give_it(start_service: MakeService) -> None:
    named = start_service(cookie_prefix="__Host-").http.get("/openapi.json").json()
    without = start_service(auth_cookies=False).http.get("/openapi.json").json()

    assert named["components"]["securitySchemes"]["AccessCookie"]["name"] == "__Host-access_token"
    assert named["components"]["securitySchemes"]["RefreshCookie"]["name"] == "__Host-refresh_token"
    assert "AccessCookie" not in json.dumps(without)
    assert "RefreshCookie" not in json.dumps(without)


def test_a_scrape_needs_a_token_where_there_is_one(start_service: MakeService) -> None:
    document = start_service(metrics_token="a token of the scraper's own").http.get("/openapi.json").json()

    assert document["paths"]["/metrics"]["get"]["security"] == [{"MetricsToken": []}]
    scheme = document["components"]["securitySchemes"]["MetricsToken"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_a_body_is_documented_in_one_form(document: dict[str, Any]) -> None:
    """Swagger UI has no fields for one of several objects, and orval's clients fail at two media types."""
    contents = {
        name: {media: content["schema"]["$ref"].split("/")[-1] for media, content in body["content"].items()}
        for name, operation in operations(document).items()
        if name in ("POST /api/v1/token", "POST /api/v1/refresh", "POST /api/v1/logout")
        for body in [operation["requestBody"]]
    }

    assert contents.pop("POST /api/v1/token") == {"application/x-www-form-urlencoded": "LoginForm"}
    for content in contents.values():
        assert content == {"application/json": "RefreshRequest"}


def test_headers_are_documented_as_they_are_written(document: dict[str, Any]) -> None:
    known = operations(document)
    for operation in known.values():
        for parameter in operation.get("parameters", []):
            assert parameter["in"] != "header" or parameter["name"] in ("Idempotency-Key", "Last-Event-ID")
        for status, response in operation["responses"].items():
            headers = response.get("headers", {})
            assert ("WWW-Authenticate" in headers) == (status == "401")
            assert ("Retry-After" in headers) == (status in ("429", "503"))
    for name, status in (
        ("POST /api/v1/token", "200"),
        ("POST /api/v1/refresh", "200"),
        ("POST /api/v1/logout", "204"),
        ("PUT /api/v1/me/password", "200"),
        ("POST /api/v1/me/delete", "204"),
    ):
        assert "Set-Cookie" in known[name]["responses"][status]["headers"]
    for name in ("GET /api/v1/me/sessions", "GET /api/v1/admin/users", "GET /api/v1/admin/audit"):
        assert "Link" in known[name]["responses"]["200"]["headers"]


def test_the_types_of_a_client_have_good_names_and_no_needless_question_marks(
    document: dict[str, Any],
) -> None:
    schemas, text = document["components"]["schemas"], json.dumps(document)

    assert "writeOnly" not in text
    assert not [name for name in schemas if name.endswith("Out")]
    assert "default" not in schemas["LoginForm"]["properties"]["grant_type"]
    for name in ("User", "TokenPair", "Session", "ServerMetadata", "Key"):
        assert schemas[name]["required"] == list(schemas[name]["properties"]), name
    for operation in operations(document).values():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert content["schema"].keys() <= {"$ref", "oneOf"}
        for parameter in operation.get("parameters", []):
            assert "anyOf" not in parameter["schema"], parameter


def test_the_document_says_what_it_is_about(document: dict[str, Any]) -> None:
    assert document["servers"][0]["url"] == "/"
    assert document["info"]["license"]["identifier"] == "MIT"
    assert all(tag["description"] for tag in document["tags"])
    used = {tag for operation in operations(document).values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}
    assert all(operation["description"] for operation in operations(document).values())


def test_the_document_of_the_repository_is_that_of_the_code() -> None:
    is_current = FILE.read_text(encoding="utf-8") == document_text()  # to show how takes minutes

    assert is_current, "make openapi"


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


def test_every_operation_of_the_document_is_fuzzed(document: dict[str, Any]) -> None:
    assert set(operations(document)) == PUBLIC | USER | ADMIN | set(SIBLING)


@pytest.fixture(scope="module")
def playground(start_lasting_service: MakeService, modules_database_url: str, server: SmtpServer) -> Api:
    """A service whose users may come to harm."""
    return start_lasting_service(database_url=modules_database_url, **sending(server))


@pytest.fixture(scope="module")
def admin_token(playground: Api) -> str:
    email = playground.new_user()
    found = playground.operator.admin.find(email)
    playground.operator.admin.change(OPERATOR, found.id, role=Role.ADMIN)
    token: str = playground.log_in(email)["access_token"]
    return token


CALLS = {"a stranger": PUBLIC | USER, "a user": PUBLIC | USER, "an admin": ADMIN, "a sibling": set(SIBLING)}


@pytest.mark.slow
@pytest.mark.parametrize("who", CALLS)
def test_no_input_leads_to_an_answer_that_is_not_in_the_document(
    playground: Api, admin_token: str, document: dict[str, Any], who: str
) -> None:
    tokens: dict[str, Callable[[], str]] = {
        "a stranger": str,
        "a user": lambda: playground.log_in()["access_token"],
        "an admin": lambda: admin_token,
        "a sibling": lambda: Sibling(playground).token,
    }

    for name in sorted(CALLS[who]):
        token = tokens[who]()
        # What everybody may call is the same with a token, and what is a user's alone is one error without.
        examples = 4 if (name in PUBLIC) == bool(token) else 12
        fuzz(playground, document, name, bearer(token) if token else {}, examples)


def fuzz(
    playground: Api, document: dict[str, Any], name: str, headers: dict[str, str], examples: int
) -> None:
    """What fails says its method and path."""
    import schemathesis  # noqa: PLC0415 — takes a second, in each process
    from schemathesis import GenerationMode  # noqa: PLC0415
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.specs.openapi import checks  # noqa: PLC0415

    held = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    method, path = name.split(" ")
    operation = schemathesis.openapi.from_dict(document)[path][method]
    modes = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=GenerationMode.NEGATIVE
    )

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=modes)
    def call(case: Any) -> None:
        case.call_and_validate(base_url=playground.base_url, headers=headers, checks=held)

    call()


def test_the_documentation_can_be_left_out(start_service: MakeService) -> None:
    bare = start_service(docs=False)

    paths = ("/", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/swagger-ui.css")
    assert {error_of(bare.http.get(path)) for path in paths} == {(404, "not_found")}
    assert bare.register().status_code == 201
