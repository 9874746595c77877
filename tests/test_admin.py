"""What administrators do, and what nobody else does."""

import re
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select, text

from app.models import User
from app.models.users import Role
from app.services.accounts.admin import UserFilter
from app.services.accounts.profile import ACCOUNT_COLUMNS
from tests.support import (
    PASSWORD,
    Api,
    at_once,
    bearer,
    browser,
    error_of,
    new_email,
    until_blocked,
)
from tests.support.accounts import USERS, Admin, register


@pytest.fixture
def api(sole_api: Api) -> Api:
    return sole_api


@pytest.fixture
def admin(api: Api, sole_database: Engine) -> Admin:
    return Admin(api, sole_database)


def test_an_admin_opens_accounts(api: Api, admin: Admin) -> None:
    email = new_email()

    created = admin.call("POST", json={"email": email.upper(), "password": PASSWORD, "role": "guest"})
    again = admin.call("POST", json={"email": email, "password": PASSWORD})
    plain = admin.call("POST", json={"email": new_email(), "password": PASSWORD})

    assert created.status_code == 201
    user = created.json()
    assert (user["email"], user["role"], user["is_active"]) == (email, "guest", True)
    assert error_of(again) == (409, "email_taken")
    assert plain.json()["role"] == "user"
    assert api.token(email).status_code == 200
    assert admin.call("GET", f"/{user['id']}").json() == user
    for bad in (
        {"email": email, "password": "tiny"},
        {"email": new_email(), "password": PASSWORD, "role": "root"},
    ):
        assert error_of(admin.call("POST", json=bad)) == (400, "validation_error")


def test_a_changed_role_shows_at_once_and_in_the_next_token(api: Api, admin: Admin) -> None:
    pair = api.log_in(register(api)["email"])
    user = api.me(pair["access_token"]).json()

    assert admin.call("PATCH", f"/{user['id']}/role", json={"role": "guest"}).json()["role"] == "guest"

    assert api.me(pair["access_token"]).json()["role"] == "guest"
    assert '"role":"guest"' in claims(api.refresh(pair["refresh_token"]).json()["access_token"])
    assert admin.change(user["id"], role="user").json()["role"] == "user"
    assert admin.change(user["id"]).json()["role"] == "user"


def claims(token: str) -> str:
    import base64  # noqa: PLC0415 — nothing else here needs it

    payload = token.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode().replace(" ", "")


def test_a_disabled_user_can_do_nothing(api: Api, admin: Admin) -> None:
    ended_before = api.metric("app_sessions_ended_total", reason="user_disabled")
    email = register(api)["email"]
    pairs = [api.log_in(email) for _ in range(2)]
    user = api.me(pairs[0]["access_token"]).json()

    assert admin.change(user["id"], is_active=False).json()["is_active"] is False

    assert error_of(api.token(email)) == (401, "invalid_credentials")
    assert {error_of(api.refresh(pair["refresh_token"])) for pair in pairs} == {(401, "refresh_token_reused")}
    token = pairs[0]["access_token"]
    assert error_of(api.me(token)) == (401, "invalid_token")
    passwords = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    changed = api.http.put("/api/v1/me/password", json=passwords, headers=bearer(token))
    assert error_of(changed) == (401, "invalid_token")
    assert api.metric("app_sessions_ended_total", reason="user_disabled") == ended_before + 2
    assert admin.change(user["id"], is_active=True).json()["is_active"] is True
    assert api.token(email).status_code == 200
    assert {api.refresh(pair["refresh_token"]).status_code for pair in pairs} == {401}


def test_no_session_outlives_a_disabling_beside_it(api: Api, admin: Admin) -> None:
    for _ in range(5):
        user = register(api)
        pair = api.log_in(user["email"])

        def act(index: int, user: dict[str, Any] = user, pair: dict[str, Any] = pair) -> httpx.Response:
            if index == 0:
                return admin.change(user["id"], is_active=False)
            return api.token(user["email"]) if index % 2 else api.refresh(pair["refresh_token"])

        disabled, *others = at_once(5, act)

        assert disabled.status_code == 200
        tokens = [other.json()["refresh_token"] for other in others if other.status_code == 200]
        assert {api.refresh(token).status_code for token in tokens} <= {401}


def test_a_deleted_user_is_gone(api: Api, admin: Admin) -> None:
    user = register(api)
    pair = api.log_in(user["email"])

    assert admin.call("DELETE", f"/{user['id']}").status_code == 204

    assert error_of(admin.call("GET", f"/{user['id']}")) == (404, "not_found")
    assert error_of(admin.call("DELETE", f"/{user['id']}")) == (404, "not_found")
    assert error_of(api.me(pair["access_token"])) == (401, "invalid_token")
    assert api.register(user["email"]).status_code == 201


def test_an_admin_sees_and_ends_the_sessions_of_others(api: Api, admin: Admin) -> None:
    ended_before = api.metric("app_sessions_ended_total", reason="admin")
    user = register(api)
    pairs = [api.log_in(user["email"]) for _ in range(2)]

    listed = admin.call("GET", f"/{user['id']}/sessions").json()
    ended = admin.call("DELETE", f"/{user['id']}/sessions")

    assert len(listed) == 2
    assert listed[0]["ip_address"] == "127.0.0.1"
    assert ended.status_code == 204
    assert admin.call("GET", f"/{user['id']}/sessions").json() == []
    assert {api.refresh(pair["refresh_token"]).status_code for pair in pairs} == {401}
    assert api.metric("app_sessions_ended_total", reason="admin") == ended_before + 2


CALLS = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/{id}"),
    ("PATCH", "/{id}"),
    ("PATCH", "/{id}/role"),
    ("DELETE", "/{id}"),
    ("GET", "/{id}/sessions"),
    ("DELETE", "/{id}/sessions"),
]
BODY = {"email": "somebody@example.com", "password": PASSWORD, "role": "user"}


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_no_call_of_an_admin_is_for_anybody_else(
    api: Api, admin: Admin, sole_database: Engine, method: str, path: str
) -> None:
    path = USERS + path.format(id=admin.id)
    body = {"role": "user"} if method == "PATCH" else BODY
    user = api.log_in()["access_token"]
    fallen = Admin(api, sole_database)
    with sole_database.connect() as connection:  # the token still says admin
        connection.execute(text("UPDATE users SET role = 'guest' WHERE id = :id"), {"id": fallen.id})

    for token, expected in [
        ("", (401, "not_authenticated")),
        ("x", (401, "invalid_token")),
        (user, (403, "forbidden")),
        (fallen.token, (403, "forbidden")),
    ]:
        response = api.http.request(method, path, json=body, headers=bearer(token) if token else {})
        assert error_of(response) == expected
    assert api.me(admin.token).json()["role"] == "admin"


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call[0] != "GET"])
def test_another_site_makes_no_call_of_an_admin(api: Api, admin: Admin, method: str, path: str) -> None:
    body = {"role": "user"} if method == "PATCH" else BODY
    with browser(api.base_url) as tab:
        tab.post("/api/v1/token", data={"username": admin.email, "password": PASSWORD})
        url = USERS + path.format(id=admin.id)
        response = tab.request(method, url, json=body, headers={"Origin": "https://evil.example"})

    assert error_of(response) == (403, "cross_site_request")


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if "{id}" in call[1]])
def test_a_user_who_does_not_exist_is_404_and_an_id_that_is_none_is_400(
    admin: Admin, method: str, path: str
) -> None:
    body = {"role": "user"} if method == "PATCH" else None
    assert error_of(admin.call(method, path.format(id=10**12), json=body)) == (404, "not_found")
    for strange in ("0", "-1", "x", str(2**63)):
        assert error_of(admin.call(method, path.format(id=strange), json=body)) == (400, "validation_error")


@pytest.mark.parametrize(
    "change",
    [
        {"role": "root"},
        {"is_active": "maybe"},
        {"is_active": 0},
        {"is_active": "true"},
        {"active": False},
        [],
    ],
)
def test_a_change_of_a_user_that_does_not_fit_changes_nothing(admin: Admin, api: Api, change: Any) -> None:
    user = register(api)

    response = admin.call("PATCH", f"/{user['id']}", json=change)

    assert error_of(response) == (400, "validation_error")
    assert admin.call("GET", f"/{user['id']}").json() == user


def test_the_last_admin_is_not_demoted_disabled_or_deleted(
    api: Api, admin: Admin, sole_database: Engine
) -> None:
    asleep = Admin(api, sole_database)
    admin.change(asleep.id, is_active=False)
    deletion = {"password": PASSWORD}

    refusals = [
        admin.change(admin.id, role="user"),
        admin.call("PATCH", f"/{admin.id}/role", json={"role": "guest"}),
        admin.change(admin.id, is_active=False),
        admin.call("DELETE", f"/{admin.id}"),
        api.http.post("/api/v1/me/delete", json=deletion, headers=bearer(admin.token)),
    ]

    assert {error_of(refusal) for refusal in refusals} == {(409, "last_admin")}
    assert admin.change(admin.id, role="admin", is_active=True).status_code == 200
    admin.change(asleep.id, is_active=True)
    assert admin.change(admin.id, role="user").status_code == 200
    assert error_of(admin.call("GET")) == (403, "forbidden")


@pytest.mark.parametrize("deed", ["demote", "disable", "delete", "leave"])
def test_two_admins_who_remove_each_other_at_once_leave_one(
    api: Api, sole_database: Engine, deed: str
) -> None:
    def act(actor: Admin, target: Admin) -> httpx.Response:
        if deed == "leave":
            return api.http.post(
                "/api/v1/me/delete", json={"password": PASSWORD}, headers=bearer(actor.token)
            )
        if deed == "delete":
            return actor.call("DELETE", f"/{target.id}")
        return actor.change(target.id, **({"role": "user"} if deed == "demote" else {"is_active": False}))

    for _ in range(4):
        with sole_database.connect() as connection:
            connection.execute(text("DELETE FROM users WHERE role = 'admin'"))
        pair = [Admin(api, sole_database), Admin(api, sole_database)]

        def each(index: int, pair: list[Admin] = pair) -> httpx.Response:
            return act(pair[index], pair[1 - index])

        answers = at_once(2, each)

        with sole_database.connect() as connection:
            count = text("SELECT count(*) FROM users WHERE role = 'admin' AND is_active")
            assert connection.execute(count).scalar_one() == 1
        won, lost = sorted(answers, key=lambda answer: answer.status_code)
        assert won.status_code in (200, 204)
        # The other came too late for the lock, or even for the check at the door.
        assert error_of(lost) in ((409, "last_admin"), (403, "forbidden"), (401, "invalid_token"))


def test_a_change_by_an_admin_demoted_meanwhile_is_refused(api: Api, sole_database: Engine) -> None:
    first, second, third = (Admin(api, sole_database) for _ in range(3))
    user = register(api)

    isolated = sole_database.execution_options(isolation_level="READ COMMITTED")
    with isolated.connect() as connection:
        connection.execute(text("UPDATE users SET role = 'user' WHERE id = :id"), {"id": second.id})
        answers = []

        def act(index: int) -> None:
            if index == 0:
                answers.append(second.change(user["id"], role="admin"))
                return
            until_blocked(sole_database)
            connection.commit()

        at_once(2, act)

    assert error_of(answers[0]) == (403, "forbidden")
    assert first.call("GET", f"/{user['id']}").json()["role"] == "user"
    assert third.call("GET").status_code == 200


def test_pages_of_users_follow_each_other_by_their_links(api: Api, admin: Admin) -> None:
    ids = [admin.id, *(register(api)["id"] for _ in range(6))]

    path, seen, pages = f"{USERS}?limit=3&is_active=true", [], 0
    while path:
        response = api.http.get(path, headers=bearer(admin.token))
        assert isinstance(response.json(), list)
        seen += [user["id"] for user in response.json()]
        pages += 1
        link = re.fullmatch(r'<(/.*)>; rel="next"', response.headers.get("link", ""))
        path = link[1] if link else ""

    assert (seen, pages) == (ids, 3)
    assert "x-total-count" not in response.headers


def test_a_full_last_page_of_users_has_no_next(api: Api, admin: Admin) -> None:
    register(api)

    assert "link" not in admin.call("GET", "?limit=2").headers
    assert "link" in admin.call("GET", "?limit=1").headers


def test_without_a_limit_a_page_has_a_thousand_users(admin: Admin, sole_database: Engine) -> None:
    with sole_database.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO users (email, hashed_password, role, is_active, created_at)"
                " SELECT 'u' || i || '@example.com', '', 'user', true, now() FROM generate_series(1, 1000) i"
            )
        )

    page = admin.call("GET")

    assert len(page.json()) == 1000
    assert "limit" not in page.links["next"]["url"]
    assert len(admin.call("GET", f"?after={page.json()[-1]['id']}").json()) == 1


def test_users_are_filtered_and_counted(api: Api, admin: Admin) -> None:
    names = ("anna", "annabel", "an_a", "bert")
    users = {name: register(api, f"{name}@example.com") for name in names}
    admin.change(users["anna"]["id"], role="guest")
    admin.change(users["bert"]["id"], is_active=False)

    def emails(query: str) -> set[str]:
        return {user["email"].split("@")[0] for user in admin.call("GET", f"?{query}").json()}

    assert emails("q=anna") == {"anna", "annabel"}
    assert emails("q=%20ANNA") == {"anna", "annabel"}
    assert emails("q=an_") == {"an_a"}
    assert emails("q=%25") == set()
    assert emails("role=guest") == {"anna"}
    assert emails("is_active=false") == {"bert"}
    assert emails("is_active=true&role=user&q=an") == {"annabel", "an_a"}
    counted = admin.call("GET", "?count=true&limit=1&q=an")
    assert counted.headers["x-total-count"] == "3"
    assert len(counted.json()) == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "role=root", "is_active=x", "q=%00"])
def test_a_query_for_users_that_does_not_fit_is_refused(admin: Admin, query: str) -> None:
    assert error_of(admin.call("GET", f"?{query}")) == (400, "validation_error")


def test_a_page_of_users_reads_no_more_than_it_shows(sole_database: Engine) -> None:
    """Whatever the filter: PostgreSQL's own account of the pages that it read."""
    page = select(*ACCOUNT_COLUMNS).where(User.id > 1000).order_by(User.id).limit(101)
    with sole_database.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO users (email, hashed_password, role, is_active, created_at)"
                " SELECT 'u' || i || '@example.com', '',"
                " CASE WHEN i % 20000 = 0 THEN 'guest' ELSE 'user' END, i % 15000 <> 0, now()"
                " FROM generate_series(1, 60000) i"
            )
        )
        connection.execute(text("ANALYZE users"))
        for wanted in (
            UserFilter(),
            UserFilter(role=Role.GUEST),
            UserFilter(role=Role.ADMIN),
            UserFilter(is_active=False),
            UserFilter(q="u5999"),
            UserFilter(q="u"),
        ):
            statement = (
                wanted.apply(page)
                .compile(connection, compile_kwargs={"literal_binds": True})
                .string.replace("%%", "%")
            )
            explained = connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"))
            plan = explained.scalar_one()[0]["Plan"]
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60, (wanted, plan)


def test_every_action_of_an_admin_is_counted(api: Api, admin: Admin) -> None:
    actions = (
        "user_created", "role_changed", "user_disabled", "user_enabled", "sessions_ended", "user_deleted",
    )  # fmt: skip
    before = {action: api.metric("app_admin_actions_total", action=action) for action in actions}

    created = admin.call("POST", json={"email": new_email(), "password": PASSWORD}).json()["id"]
    admin.change(created, role="guest")
    admin.change(created, is_active=False)
    admin.change(created, is_active=True)
    admin.call("DELETE", f"/{created}/sessions")
    admin.call("DELETE", f"/{created}")

    for action in actions:
        assert api.metric("app_admin_actions_total", action=action) == before[action] + 1
