"""Who was invited and has chosen no password yet gets in by none, and learns no more than anybody."""

import pytest
from sqlalchemy import Engine, text

from tests.support import PASSWORD, Api, bearer, error_of
from tests.support.commands import run_command

REFUSED = (401, "invalid_credentials")


def without_password(api: Api, engine: Engine) -> tuple[str, str]:
    """Email and access token; who is signed in could have been so only before."""
    email = api.new_user()
    token = api.log_in(email)["access_token"]
    with engine.connect() as connection:
        query = text("UPDATE users SET hashed_password = NULL WHERE email = :email")
        connection.execute(query, {"email": email})
    return email, token


@pytest.mark.parametrize("password", [PASSWORD, "", "None", "!"])
def test_no_password_lets_in_who_has_none(api: Api, engine: Engine, password: str) -> None:
    email, _ = without_password(api, engine)

    response = api.token(email, password)

    assert error_of(response) == (REFUSED if password else (400, "validation_error"))
    if password:
        assert response.json() == api.token("nobody@example.com", password).json()


def test_who_has_no_password_can_prove_none(api: Api, engine: Engine) -> None:
    _, token = without_password(api, engine)
    headers = bearer(token)
    change = {"current_password": PASSWORD, "new_password": "another correct horse"}

    assert error_of(api.http.put("/api/v1/me/password", json=change, headers=headers)) == REFUSED
    assert (
        error_of(api.http.post("/api/v1/me/delete", json={"password": PASSWORD}, headers=headers)) == REFUSED
    )
    assert api.me(token).status_code == 200


def test_an_operator_gives_a_password_to_who_has_none(api: Api, engine: Engine, database_url: str) -> None:
    email, _ = without_password(api, engine)

    done = run_command(
        database_url, "users", "set-password", email, "--password-stdin", stdin="another correct horse"
    )

    assert done.returncode == 0, done.stderr
    assert api.token(email, "another correct horse").status_code == 200
