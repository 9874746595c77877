"""What every release does, over HTTP alone: python main_flows.py ADMIN_EMAIL PASSWORD BASE_URL...

Releases are tried with the file that they came with. With several addresses each request goes to the next
one, as it does behind a load balancer while one release takes the place of another.
"""

import sys
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx


class Client:
    def __init__(self, base_urls: list[str]) -> None:
        self._next = cycle(httpx.Client(base_url=url, timeout=60) for url in base_urls)

    def call(self, method: str, path: str, status: int, token: str = "", **content: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = next(self._next)
        client.cookies.clear()
        response = client.request(method, f"/api/v1{path}", headers=headers, **content)
        assert response.status_code == status, (method, path, str(client.base_url), response.text)
        return response.json() if response.content else None

    def log_in(self, email: str, password: str, status: int = 200) -> Any:
        return self.call("POST", "/token", status, data={"username": email, "password": password})


def main(admin_email: str, password: str, *base_urls: str) -> None:
    client, email, another = (
        Client(list(base_urls)),
        f"{uuid4().hex}@example.com",
        "another of the same length",
    )
    user = client.call("POST", "/users/", 201, json={"email": email, "password": password})
    client.call("POST", "/users/", 409, json={"email": email, "password": password})

    refresh(client, client.log_in(email, password))
    access = change_password(client, email, password, another)
    assert client.call("GET", "/me", 200, access)["email"] == email
    client.call("POST", "/logout", 204, access)
    client.call("GET", "/me", 401, access)

    administrate(client, client.log_in(admin_email, password)["access_token"], user)
    client.log_in(email, another, status=401)


def refresh(client: Client, pair: Any) -> None:
    first = client.call("POST", "/refresh", 200, json={"refresh_token": pair["refresh_token"]})
    client.call("GET", "/me", 200, first["access_token"])
    second = client.call("POST", "/refresh", 200, json={"refresh_token": first["refresh_token"]})
    client.call(
        "POST", "/refresh", 401, json={"refresh_token": pair["refresh_token"]}
    )  # long used, so stolen
    client.call("GET", "/me", 401, second["access_token"])


def change_password(client: Client, email: str, password: str, another: str) -> str:
    """An access token of after that."""
    access = client.log_in(email, password)["access_token"]
    passwords = {"current_password": password, "new_password": another}
    pair = client.call("PUT", "/me/password", 200, access, json=passwords)
    client.call("GET", "/me", 401, access)
    client.log_in(email, password, status=401)
    client.log_in(email, another)
    token: str = pair["access_token"]
    return token


def administrate(client: Client, access: str, user: Any) -> None:
    found = client.call("GET", "/admin/users", 200, access, params={"q": user["email"]})
    assert [each["id"] for each in found] == [user["id"]]
    client.call("PATCH", f"/admin/users/{user['id']}", 200, access, json={"is_active": False})
    events = client.call("GET", "/admin/audit", 200, access, params={"user_id": user["id"]})
    known = {
        "user.registered",
        "login.succeeded",
        "session.reuse_detected",
        "user.password_changed",
        "user.disabled",
    }
    assert known <= {each["event"] for each in events}, events


if __name__ == "__main__":
    main(*sys.argv[1:])
