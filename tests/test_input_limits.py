"""However much is sent: little is looked at, and little is said."""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from email_validator import validate_email

from tests.support import Api, MakeDatabase, MakeService, bearer, error_of, look_into
from tests.support.accounts import Admin

JSON = {"Content-Type": "application/json"}


UNSAFE = "a@" + "".join(chr(0xE000 + number) for number in range(240))  # its message names each character


def object_with(name: str) -> str:
    return json.dumps({name: 1})


LONG = [
    "x" * 60_000,
    "ä" * 30_000,
    "\u0301" * 30_000,
    "\ud800" * 10_000,
    "\x01" * 10_000,
    "\x7f\u2028" * 9_000,
]
MANY = json.dumps({f"field {number}": number for number in range(2_500)})


@pytest.fixture(scope="module")
def admin(start_lasting_service: MakeService, make_database: MakeDatabase) -> Iterator[Admin]:
    url = make_database(migrated=True)
    engine = look_into(url)
    yield Admin(start_lasting_service(database_url=url), engine)
    engine.dispose()


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/users/"), ("PATCH", "/api/v1/admin/users/1"), ("POST", "/api/v1/refresh")],
)  # fmt: skip
def test_an_error_is_short_however_long_the_body(admin: Admin, method: str, path: str, long: str) -> None:
    bodies = [
        object_with(long), json.dumps({"email": long, "password": long, "role": long}), json.dumps([long]),
        json.dumps({"email": f"{long[:200]}@example.com", "password": "short"}),
        json.dumps({"email": UNSAFE, "password": long}),
        json.dumps({"refresh_token": [long]}), MANY, json.dumps(long), "[" * 30_000, object_with(long)[:-1],
    ]  # fmt: skip

    for body in bodies:
        response = admin.api.http.request(method, path, content=body, headers=JSON | bearer(admin.token))

        assert response.status_code in (400, 401, 413)
        error_of(response)
        assert response.json()["detail"]
        assert len(response.content) <= 2048


@pytest.mark.parametrize("long", [text[:800] for text in LONG if "\ud800" not in text])
@pytest.mark.parametrize(
    "path",
    ["/api/v1/admin/users/{}", "/api/v1/admin/users/1/{}", "/{}",
     "/api/v1/admin/audit?event={}&since={}&limit={}", "/api/v1/admin/users?q={}&role={}&{}=1",
     "/api/v1/me/sessions?after={}"],
)  # fmt: skip
def test_an_error_is_short_however_long_the_address(admin: Admin, path: str, long: str) -> None:
    url = path.replace("{}", quote(long))

    response = admin.api.http.get(url, headers=bearer(admin.token))

    assert error_of(response)[0] in (400, 404)
    assert response.json()["detail"]
    assert len(response.content) <= 2048


def test_a_long_error_says_what_fits(admin: Admin) -> None:
    response = admin.api.http.patch("/api/v1/admin/users/1", content=MANY, headers=JSON | bearer(admin.token))

    problems = response.json()["detail"]
    assert len(problems) > 10
    assert problems[0]["loc"] == ["body", "field 0"]


def test_an_email_and_a_password_are_measured_before_they_are_looked_at(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To normalize combining marks takes quadratic time."""
    seen: list[int] = []
    normalize = unicodedata.normalize

    def record_email(email: str, **options: Any) -> Any:
        seen.append(len(email))
        return validate_email(email, **options)

    def record_text(form: Any, text: str) -> str:
        seen.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr("app.setting_bootstrap.validate_email", record_email)
    monkeypatch.setattr(unicodedata, "normalize", record_text)
    marks = "\u0301\u0327" * 2_500

    answers = [
        api.register(f"{marks}@example.com"),
        api.register(f"a@{marks}.example"),
        api.register(password=marks),
        api.token(f"{marks}@example.com"),
        api.token("a@example.com", marks),
    ]

    assert [error_of(answer) for answer in answers] == [(400, "validation_error")] * 5
    assert max(seen) <= 254


@pytest.mark.parametrize(("length", "status"), [(254, 401), (255, 400)])
def test_the_longest_email_may_log_in(api: Api, length: int, status: int) -> None:
    assert api.token("a@example.com".rjust(length, "a")).status_code == status
