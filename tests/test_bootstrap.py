"""Accounts of the settings, and the one that guests share."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, text

from app.container import Container
from tests.support import LIVE, PASSWORD, Api, Lines, MakeService, at_once, bearer, error_of, make_settings
from tests.support.accounts import end_reasons

URL = "postgresql://somebody@db/auth"
GUEST = {"email": "Guest@Board.example.com", "role": "guest", "password": "guest"}


def users_in(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT email, id, role, is_active FROM users"))
        return {row.email: tuple(row)[1:] for row in rows}


def test_users_of_the_settings_log_in_on_a_fresh_stack(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    ada = {"email": "ada@example.com", "role": "admin", "password_file": str(tmp_path / "password"), "id": 42}

    api = start_service(database_url=fresh_database_url, bootstrap_users=json.dumps([GUEST, ada]))

    assert api.token("guest@board.example.com", "guest").status_code == 200
    headers = bearer(api.log_in("ada@example.com")["access_token"])
    assert api.http.get("/api/v1/admin/users", headers=headers).status_code == 200
    assert users_in(fresh_database)["ada@example.com"] == (42, "admin", True)
    assert api.register().json()["id"] == 43
    audit = api.http.get("/api/v1/admin/audit?event=user.created", headers=headers).json()
    assert [(each["actor_id"], each["details"]) for each in audit] == [
        (None, {"role": "admin"}),
        (None, {"role": "guest"}),
    ]


def test_users_of_the_settings_are_never_changed(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine, tmp_path: Path
) -> None:
    start_service(database_url=fresh_database_url, bootstrap_users=json.dumps([GUEST])).http.get(LIVE)
    user_id = users_in(fresh_database)["guest@board.example.com"][0]
    (tmp_path / "users.json").write_text(json.dumps([GUEST | {"password": "other", "role": "admin"}]))

    again = start_service(database_url=fresh_database_url, bootstrap_users=str(tmp_path / "users.json"))

    assert again.token("guest@board.example.com", "guest").status_code == 200
    assert users_in(fresh_database) == {"guest@board.example.com": (user_id, "guest", True)}


def test_replicas_that_start_at_once_create_a_user_once(
    fresh_database_url: str, fresh_database: Engine
) -> None:
    users = json.dumps([{**GUEST, "id": 7}, {**GUEST, "email": "ada@example.com"}])

    settings = make_settings(database_url=fresh_database_url, bootstrap_users=users)
    replicas = [Container(settings) for _ in range(4)]

    at_once(4, lambda number: replicas[number].bootstrap.run())

    assert set(users_in(fresh_database)) == {"guest@board.example.com", "ada@example.com"}
    for replica in replicas:
        replica.close()


@pytest.fixture
def _two_of_one_id(start_service: MakeService, fresh_database_url: str, lines: Lines) -> None:
    assert lines.lines == []
    for email in ("ada@example.com", GUEST["email"]):
        users = json.dumps([{**GUEST, "email": email, "id": 7}])
        settings = {"bootstrap_users": users, "log_level": "INFO", "log_format": "json"}
        start_service(database_url=fresh_database_url, **settings).http.get(LIVE)


@pytest.mark.usefixtures("_two_of_one_id")
def test_an_id_that_is_somebody_elses_is_an_error_of_the_log(fresh_database: Engine, lines: Lines) -> None:

    assert set(users_in(fresh_database)) == {"ada@example.com"}
    assert [event["user_id"] for event in lines.events("bootstrap.id_taken")] == [7]
    assert [event["user_id"] for event in lines.events("bootstrap.weak_password")] == [7]
    assert [event["role"] for event in lines.events("bootstrap.user_created")] == ["guest"]
    assert "example.com" not in lines.getvalue()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("[{]", "not a JSON list"),
        ('{"email": "a@b.example"}', "neither a JSON list nor"),
        ("""'[{"email": "a@b.example", "password": "hush"}]'""", "neither a JSON list nor"),
        ("/nowhere/users.json", "cannot read /nowhere/users.json: No such file"),
        ('["ada@example.com"]', "user 1: "),
        ('[{"password": "hidden"}]', "user 1: email: Field required"),
        ('[{"email": "ada", "password": "hidden"}]', "user 1: email: "),
        ('[{"email": "a@b.example", "password": "hidden", "role": "root"}]', "user 1: role: "),
        ('[{"email": "a@b.example", "password": "hidden", "rôle": "user"}]', "user 1: rôle: Extra inputs"),
        ('[{"email": "a@b.example", "password": "hidden", "id": 0}]', "user 1: id: "),
        ('[{"email": "a@b.example", "password": "hidden", "id": "7"}]', "user 1: id: "),
        ('[{"email": "a@b.example"}]', "user 1: has either a password or a password_file"),
        ('[{"email": "a@b.example", "password": ""}]', "user 1: the password has 1 to 1024 bytes"),
        ('[{"email": "a@b.example", "password": "hidden", "password_file": "x"}]', "user 1: has either"),
        ('[{"email": "a@b.example", "password_file": "/nowhere"}]', "user 1: cannot read /nowhere"),
        (
            '[{"email": "a@b.example", "password": "hidden\\u0000"}]',
            "user 1: the password has a NUL character",
        ),
        (
            json.dumps([{**GUEST, "id": 7}, {**GUEST, "email": "b@b.example", "id": 7}]),
            "an id is there twice",
        ),
        (json.dumps([GUEST, GUEST | {"email": GUEST["email"].lower()}]), "an email is there twice"),
    ],
)
def test_what_is_no_list_of_users_ends_the_start(given: str, complaint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_settings(database_url=URL, bootstrap_users=given)

    assert complaint in str(refused.value)
    assert "bootstrap_users" in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_users_and_passwords_may_be_in_files_of_any_editor(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\r\n", encoding)
    ada = {"email": "ada@example.com", "password_file": str(tmp_path / "password")}
    (tmp_path / "users.json").write_text(json.dumps([GUEST, ada]), encoding)

    settings = make_settings(database_url=URL, bootstrap_users=str(tmp_path / "users.json"))

    assert [user.text for user in settings.bootstrap_users] == ["guest", PASSWORD]


@pytest.fixture
def guests(start_service: MakeService, fresh_database_url: str) -> Api:
    return start_service(database_url=fresh_database_url, bootstrap_users=json.dumps([GUEST]))


def test_a_guest_cannot_change_or_delete_what_guests_share(guests: Api) -> None:
    token = guests.token(GUEST["email"], "guest").json()["access_token"]
    me, headers = "/api/v1/me", bearer(token)
    passwords = {"current_password": "guest", "new_password": PASSWORD}

    refused = [
        guests.http.put(f"{me}/password", json=passwords, headers=headers),
        guests.http.post(f"{me}/delete", json={"password": "guest"}, headers=headers),
        guests.http.get(f"{me}/sessions", headers=headers),
        guests.http.delete(f"{me}/sessions", headers=headers),
    ]

    assert {error_of(response) for response in refused} == {(403, "forbidden")}
    assert guests.me(token).status_code == 200
    assert guests.token(GUEST["email"], "guest").status_code == 200


def test_wrong_passwords_lock_nobody_out_of_a_demo(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    """Its password is public, so nobody guesses it; what one address may try is limited as ever."""
    users = json.dumps([GUEST, {"email": "ada@example.com", "password": PASSWORD}])
    limits = {"throttles": True, "throttle_login_address": "130/300s"}
    api = start_service(database_url=fresh_database_url, bootstrap_users=users, **limits)

    for email, times in ((GUEST["email"], 110), ("ada@example.com", 11)):
        statuses = [api.token(email, "wrong").status_code for _ in range(times)]

    assert statuses == [401] * 10 + [429]
    assert api.token(GUEST["email"], "guest").status_code == 200
    assert {api.token(GUEST["email"], "wrong").status_code for _ in range(11)} == {401, 429}
    with fresh_database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM consecutive_failures")).scalar_one() == 1


def test_a_guest_who_logs_out_leaves_the_other_guests_signed_in(guests: Api, fresh_database: Engine) -> None:
    one, two, other = (guests.token(GUEST["email"], "guest").json() for _ in range(3))

    assert guests.log_out(one["access_token"]).status_code == 204
    assert guests.http.post("/api/v1/logout", json={"refresh_token": two["refresh_token"]}).status_code == 204

    assert end_reasons(fresh_database, one, two, other) == ["logout", "logout", None]
    assert guests.refresh(other["refresh_token"]).status_code == 200
