"""Administrators, and what the tables say of sessions."""

from typing import Any

import httpx
from jose import jwt
from sqlalchemy import Engine, text

from tests.support.api import Api, bearer

USERS = "/api/v1/admin/users"


class Admin:
    """A signed-in administrator."""

    def __init__(self, api: Api, fresh_database: Engine, email: str | None = None) -> None:
        self.api = api
        self.email = email or api.new_user()
        with fresh_database.connect() as connection:
            statement = text("UPDATE users SET role = 'admin' WHERE email = :email RETURNING id")
            self.id = int(connection.execute(statement, {"email": self.email}).scalar_one())
        self.token = api.log_in(self.email)["access_token"]

    def call(self, method: str, path: str = "", **content: Any) -> httpx.Response:
        return self.api.http.request(method, USERS + path, headers=bearer(self.token), **content)

    def change(self, user_id: int, **change: Any) -> httpx.Response:
        return self.call("PATCH", f"/{user_id}", json=change)


def register(api: Api, email: str | None = None) -> dict[str, Any]:
    user: dict[str, Any] = api.register(email).json()
    return user


def session_of(pair: dict[str, Any]) -> str:
    return str(jwt.get_unverified_claims(pair["refresh_token"])["sid"])


def end_reasons(engine: Engine, *pairs: dict[str, Any]) -> list[str | None]:
    """Why each session has ended; None where it lives."""
    with engine.connect() as connection:
        query = text("SELECT revoked_reason FROM refresh_tokens WHERE id = :sid")
        return [connection.execute(query, {"sid": session_of(pair)}).scalar_one() for pair in pairs]


def set_hash(engine: Engine, email: str, hashed: str) -> None:
    with engine.connect() as connection:
        query = text("UPDATE users SET hashed_password = :hashed WHERE email = :email")
        connection.execute(query, {"hashed": hashed, "email": email})


def get_hash(engine: Engine, email: str) -> str:
    with engine.connect() as connection:
        query = text("SELECT hashed_password FROM users WHERE email = :email")
        return str(connection.execute(query, {"email": email}).scalar_one())


def disable(engine: Engine, email: str) -> None:
    with engine.connect() as connection:
        connection.execute(text("UPDATE users SET is_active = false WHERE email = :email"), {"email": email})
