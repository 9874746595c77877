import json

import pytest
from sqlalchemy import Engine, text

from tests.support import PASSWORD, Api, MakeService, at_once, error_of, new_email


def count_users(engine: Engine, email: str) -> int:
    with engine.connect() as connection:
        query = text("SELECT count(*) FROM users WHERE email = :email")
        return int(connection.execute(query, {"email": email}).scalar_one())


def test_a_registered_user_is_answered_without_the_password(api: Api) -> None:
    email = new_email()

    response = api.register(email)

    assert response.status_code == 201
    user = response.json()
    assert set(user) == {"id", "email", "role", "is_active", "created_at", "email_verified"}
    assert isinstance(user["id"], int)
    assert (user["email"], user["role"], user["is_active"]) == (email, "user", True)


def test_nobody_registers_as_an_admin(api: Api) -> None:
    body = {"email": new_email(), "password": PASSWORD, "role": "admin", "id": 7, "is_active": False}

    user = api.http.post("/api/v1/users/", json=body).json()

    assert (user["role"], user["is_active"]) == ("user", True)
    assert user["id"] != 7


def test_an_email_is_registered_once_however_it_is_spelled(api: Api) -> None:
    email = new_email()
    api.register(email)

    response = api.register(f"  {email.upper()} ")

    assert error_of(response) == (409, "email_taken")
    assert response.json()["detail"] == "Email already registered"


def test_an_international_domain_is_one_however_it_is_spelled(api: Api) -> None:
    local = new_email().split("@")[0]

    first = api.register(f"{local}@BÜCHER.example")
    second = api.register(f"{local}@xn--bcher-kva.example")

    assert first.json()["email"] == f"{local}@xn--bcher-kva.example"
    assert error_of(second) == (409, "email_taken")
    assert api.token(f"{local}@bücher.example").status_code == 200


def test_of_twenty_parallel_registrations_one_wins(api: Api, engine: Engine) -> None:
    email = new_email()

    responses = at_once(20, lambda _: api.register(email))

    statuses = sorted(response.status_code for response in responses)
    assert statuses == [201] + [409] * 19
    assert count_users(engine, email) == 1


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "a b@example.com",
        "ada@exa mple.com",
        "ada@example.com\x00",
        "a" * 65 + "@example.com",
        "ada@" + "a" * 260 + ".com",
        "Ada <ada@example.com>",
        "ada@[127.0.0.1]",
    ],
)
def test_what_is_not_an_email_is_refused(api: Api, email: str) -> None:
    response = api.http.post("/api/v1/users/", json={"email": email, "password": PASSWORD})

    assert error_of(response) == (400, "validation_error")
    assert [problem["loc"] for problem in response.json()["detail"]] == [["body", "email"]]


@pytest.mark.parametrize(
    "password",
    ["", "1234567", "e\u0301" * 7, "x" * 1025, "\N{PILE OF POO}" * 257, "correct\x00horse", "\ud800" * 8],
    ids=["empty", "seven", "seven when composed", "1025 bytes", "1028 bytes", "nul", "surrogates"],
)
def test_an_unsuitable_password_is_refused_and_nothing_stored(
    api: Api, engine: Engine, password: str
) -> None:
    email = new_email()
    body = json.dumps({"email": email, "password": password})

    response = api.http.post("/api/v1/users/", content=body, headers={"Content-Type": "application/json"})

    assert error_of(response) == (400, "validation_error")
    assert [problem["loc"] for problem in response.json()["detail"]] == [["body", "password"]]
    assert count_users(engine, email) == 0


@pytest.mark.parametrize(
    "password", ["73160482", "x" * 1024, "  7 3  16 ", "пароль пароль", "\N{PILE OF POO}" * 256]
)
def test_any_password_of_the_right_length_will_do(api: Api, password: str) -> None:
    email = new_email()

    assert api.register(email, password).status_code == 201
    assert api.token(email, password).status_code == 200


def test_the_minimum_length_of_a_password_is_a_setting(start_service: MakeService) -> None:
    api = start_service(password_min_length=12)

    refused = api.register(password=PASSWORD[:11])

    assert error_of(refused) == (400, "validation_error")
    assert "12 characters" in refused.json()["detail"][0]["msg"]
    assert api.register(password=PASSWORD[:12]).status_code == 201


def test_a_refused_registration_echoes_nothing(api: Api) -> None:
    response = api.http.post("/api/v1/users/", json={"email": "marked-secret", "password": "s3cr3t"})

    assert error_of(response) == (400, "validation_error")
    assert "s3cr3t" not in response.text
    assert response.json()["detail"][0]["msg"].startswith("An email address must have an @-sign")
    assert all(set(problem) == {"loc", "msg", "type"} for problem in response.json()["detail"])


def test_a_password_that_is_slow_to_normalize_is_not_normalized(api: Api) -> None:
    response = api.register(password="\u0301" * 14000 + "\u0327" * 14000)

    assert error_of(response) == (400, "validation_error")
    (problem,) = response.json()["detail"]
    assert problem["type"] == "string_too_long"
    assert problem["msg"] == "String should have at most 1024 characters"


def test_a_password_that_is_no_text_is_not_quoted(api: Api) -> None:
    body = json.dumps({"email": new_email(), "password": "secret12\ud800x"})

    response = api.http.post("/api/v1/users/", content=body, headers={"Content-Type": "application/json"})

    assert error_of(response) == (400, "validation_error")
    assert "d800" not in response.text
    assert "position" not in response.text
