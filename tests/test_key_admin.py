"""What operators and administrators do with signing keys: at the command line, and over HTTP."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jose import jwt
from sqlalchemy import Engine, text

from tests.support import LIVE, SECRET_KEY, Api, MakeService, MovableClock, bearer, error_of, eventually
from tests.support.accounts import Admin
from tests.support.commands import Ended, run_command
from tests.support.keys import key_set, kid_of, rows

RunCommand = Callable[..., Ended]
pytestmark = pytest.mark.usefixtures("keys_are_read_often")
NEW_KEY = "another secret key of the tests, newer than the one before"
KEYS = "/api/v1/admin/keys"


@pytest.fixture
def run(fresh_database_url: str) -> RunCommand:
    """Runs `keys …` on the fresh database, for a service that signs with ES256."""
    return partial(run_command, fresh_database_url, "keys", JWT_ALGORITHM="ES256")


@pytest.fixture
def es(start_service: MakeService, fresh_database_url: str) -> Api:
    api = start_service(database_url=fresh_database_url, jwt_algorithm="ES256")
    assert api.http.get(LIVE).status_code == 200  # its first key is made
    return api


def printed(result: Ended) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def events(engine: Engine) -> list[tuple[str, dict[str, Any]]]:
    """Of keys, in the audit trail."""
    query = text("SELECT event, details FROM audit_events WHERE event LIKE 'key%' ORDER BY id")
    with engine.connect() as connection:
        return [(row.event, row.details) for row in connection.execute(query)]


def test_keys_are_listed_and_exported_as_siblings_see_them(es: Api, run: RunCommand) -> None:
    (key,) = printed(run("list", "--json"))
    exported = printed(run("export"))
    lines = run("list").stdout.splitlines()

    assert exported == es.http.get("/.well-known/jwks.json").json()
    assert exported["keys"][0]["kid"] == key["kid"]
    assert (key["algorithm"], key["state"], key["can_sign"]) == ("ES256", "signing", True)
    assert [line.split()[:3] for line in lines] == [[key["kid"], "ES256", "signing"]]


def test_times_of_keys_are_written_as_the_api_does(admin: Admin, run: RunCommand) -> None:
    (of_the_api,) = ask(admin, "GET")

    assert printed(run("list", "--json")) == [of_the_api]
    assert of_the_api["signs_from"].endswith("Z")


def test_a_reason_looks_like_no_line_of_the_list(es: Api, run: RunCommand) -> None:
    kid = next(iter(key_set(es)))
    run("revoke", kid, "--reason", "lost\n\x1b[2Jkid  ES256\tsigning")

    lines = run("list").stdout.splitlines()

    assert len(lines) == 2
    assert lines[0].endswith(r"lost\u000a\u001b[2Jkid  ES256\u0009signing")


def test_without_keys_the_list_says_so(run: RunCommand) -> None:
    assert run("list").stdout == "None.\n"
    assert printed(run("export")) == {"keys": []}


def test_a_prepared_key_is_published_and_made_once(run: RunCommand, fresh_database: Engine) -> None:
    first = printed(run("prepare", "--json", JWT_ALGORITHM="HS256"))
    again = printed(run("prepare", "--json", JWT_ALGORITHM="HS256"))
    other = printed(run("prepare", "--algorithm", "RS256", "--json", JWT_ALGORITHM="HS256"))

    assert first["state"] == "published"
    assert again["kid"] == first["kid"]
    assert (other["algorithm"], other["state"]) == ("RS256", "published")
    assert len(rows(fresh_database)) == 2
    exported = {key["kid"] for key in printed(run("export"))["keys"]}
    assert exported == {first["kid"], other["kid"]}


def test_a_rotation_publishes_first_and_one_that_waits_is_enough(es: Api, run: RunCommand) -> None:
    (before,) = key_set(es)

    successor = printed(run("rotate", "--json"))
    again = printed(run("rotate", "--json"))

    assert (successor["state"], again["kid"]) == ("published", successor["kid"])
    assert {key["kid"] for key in printed(run("export"))["keys"]} == {before, successor["kid"]}
    assert kid_of(es.log_in()["access_token"]) == before


def test_a_rotation_at_once_signs_at_once(es: Api, run: RunCommand) -> None:
    (before,) = key_set(es)

    successor = printed(run("rotate", "--now", "--json"))

    states = {key["kid"]: key["state"] for key in printed(run("list", "--json"))}
    assert states == {before: "verifying", successor["kid"]: "signing"}


def test_while_a_secret_is_shared_a_rotation_is_of_the_prepared_key(run: RunCommand) -> None:
    hs = partial(run, JWT_ALGORITHM="HS256")
    prepared = printed(hs("prepare", "--algorithm", "RS256", "--json"))

    successor = printed(hs("rotate", "--now", "--json"))

    assert successor["kid"] != prepared["kid"]
    assert successor["algorithm"] == "RS256"


def test_a_revoked_key_is_refused_and_every_session_goes_on(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine, run: RunCommand
) -> None:
    clock = MovableClock()
    api = start_service(database_url=fresh_database_url, jwt_algorithm="ES256", clock=clock)
    pair = api.log_in()
    (kid,) = key_set(api)

    revoked = printed(run("revoke", kid, "--reason", "a backup was lost", "--json"))
    clock.move(seconds=60)
    eventually(lambda: kid not in key_set(api))

    assert (revoked["state"], revoked["revoked_reason"]) == ("revoked", "a backup was lost")
    assert error_of(api.me(pair["access_token"])) == (401, "token_expired")
    anew = api.refresh(pair["refresh_token"]).json()
    assert api.me(anew["access_token"]).status_code == 200
    assert kid_of(anew["access_token"]) == rows(fresh_database)[-1].kid != kid
    recorded = dict(events(fresh_database))
    assert recorded["key.revoked"] == {"kid": kid, "reason": "a backup was lost"}


def test_a_key_is_revoked_once(es: Api, run: RunCommand, fresh_database: Engine) -> None:
    (kid,) = key_set(es)
    run("revoke", kid, "--reason", "first")

    again = printed(run("revoke", kid, "--reason", "second", "--json"))

    assert again["revoked_reason"] == "first"
    assert len(rows(fresh_database)) == 2


def test_a_revoked_successor_is_followed_by_none_in_haste(es: Api, run: RunCommand) -> None:
    successor = printed(run("rotate", "--json"))

    run("revoke", successor["kid"], "--reason", "too early")

    states = [key["state"] for key in printed(run("list", "--json"))]
    assert sorted(states) == ["revoked", "signing"]
    assert len(key_set(es)) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["revoke", "nobody", "--reason", "x"], 1, "no such user, session, service or key"),
        (["revoke", "nobody"], 2, "--reason"),
        (["revoke", "nobody", "--reason", ""], 2, "1 to 200 characters"),
        (["revoke", "nobody", "--reason", "x" * 201], 2, "1 to 200 characters"),
        (["prepare", "--algorithm", "HS256"], 2, "HS256"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(
    run: RunCommand, arguments: list[str], status: int, word: str
) -> None:
    result = run(*arguments)

    assert result.returncode == status
    assert word in result.stderr


def after_a_change(run: RunCommand) -> RunCommand:
    return partial(run, SECRET_KEY=NEW_KEY, SECRET_KEY_FALLBACKS=json.dumps([SECRET_KEY]))


def test_after_a_change_of_the_secret_key_the_keys_are_encrypted_anew(
    es: Api, run: RunCommand, start_service: MakeService, fresh_database_url: str
) -> None:
    token = es.log_in()["access_token"]

    first = printed(after_a_change(run)("rewrap", "--json"))
    again = printed(after_a_change(run)("rewrap", "--json"))

    assert (first, again) == (
        {"rewrapped": 1, "undecryptable": []},
        {"rewrapped": 0, "undecryptable": []},
    )
    later = start_service(database_url=fresh_database_url, jwt_algorithm="ES256", secret_key=NEW_KEY)
    assert later.me(token).status_code == 200
    assert kid_of(later.log_in()["access_token"]) == kid_of(token)


def test_a_fallback_alone_loses_no_key(es: Api, start_service: MakeService, fresh_database_url: str) -> None:
    pair = es.log_in()
    settings = {"secret_key": NEW_KEY, "secret_key_fallbacks": (SECRET_KEY,), "jwt_algorithm": "ES256"}

    after = start_service(database_url=fresh_database_url, **settings)

    assert kid_of(after.log_in()["access_token"]) == kid_of(pair["access_token"])
    assert after.me(pair["access_token"]).status_code == 200
    assert after.refresh(pair["refresh_token"]).status_code == 200


@pytest.mark.usefixtures("es")
def test_what_cannot_be_decrypted_is_named_by_rewrap(run: RunCommand, fresh_database: Engine) -> None:
    (row,) = rows(fresh_database)

    result = run("rewrap", "--json", SECRET_KEY=NEW_KEY)

    assert result.returncode == 1
    assert json.loads(result.stdout) == {"rewrapped": 0, "undecryptable": [row.kid]}


def doctor(fresh_database_url: str, **settings: str) -> dict[str, tuple[str, str]]:
    result = run_command(fresh_database_url, "doctor", "--json", **({"JWT_ALGORITHM": "ES256"} | settings))
    return {each["subject"]: (each["verdict"], each["text"]) for each in json.loads(result.stdout)}


def test_the_doctor_says_when_a_fallback_is_not_needed_any_more(
    es: Api, run: RunCommand, fresh_database_url: str, fresh_database: Engine
) -> None:
    es.log_in()
    after = {"SECRET_KEY": NEW_KEY, "SECRET_KEY_FALLBACKS": json.dumps([SECRET_KEY])}
    said = []

    def ask() -> None:
        said.append(doctor(fresh_database_url, **after)["fallbacks"])

    ask()
    after_a_change(run)("rewrap")
    ask()
    with fresh_database.connect() as connection:
        connection.execute(text("UPDATE refresh_tokens SET rotated_at = now() + interval '1 second'"))
    ask()

    assert [verdict for verdict, _ in said] == ["ok", "ok", "warning"]
    assert "decrypt 1 signing keys" in said[0][1]
    assert "verify refresh tokens until" in said[1][1]
    assert "not needed any more" in said[2][1]
    assert "fallbacks" not in doctor(fresh_database_url)


def test_the_doctor_knows_a_sound_key_and_one_that_is_lost(es: Api, fresh_database_url: str) -> None:
    (kid,) = key_set(es)

    assert doctor(fresh_database_url)["keys"][0] == "ok"
    assert kid in doctor(fresh_database_url)["keys"][1]
    assert doctor(fresh_database_url)["siblings"][0] == "ok"
    verdict, said = doctor(fresh_database_url, SECRET_KEY=NEW_KEY)["keys"]
    assert (verdict, kid in said) == ("fault", True)
    assert doctor(fresh_database_url, SECRET_KEY=NEW_KEY, JWT_ALGORITHM="HS256")["keys"][0] == "warning"


@pytest.fixture
def admin(es: Api, fresh_database: Engine) -> Admin:
    return Admin(es, fresh_database)


def ask(admin: Admin, method: str, path: str = "", **body: Any) -> Any:
    content: dict[str, Any] = {"json": body} if method == "POST" else {}
    response = admin.api.http.request(method, KEYS + path, headers=bearer(admin.token), **content)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_administrator_does_the_same_over_http(admin: Admin, fresh_database: Engine) -> None:
    (first,) = ask(admin, "GET")
    prepared = ask(admin, "POST", "/prepare", algorithm="RS256")
    successor = ask(admin, "POST", "/rotate")
    at_once = ask(admin, "POST", "/rotate", now=True)
    rewrapped = ask(admin, "POST", "/rewrap")
    revoked = ask(admin, "POST", f"/{successor['kid']}/revoke", reason="a drill")

    assert first["state"] == "signing"
    assert (prepared["algorithm"], prepared["state"]) == ("RS256", "published")
    assert (successor["state"], at_once["state"]) == ("published", "signing")
    assert rewrapped == {"rewrapped": 0, "undecryptable": []}
    assert (revoked["state"], revoked["revoked_reason"]) == ("revoked", "a drill")
    assert kid_of(admin.api.log_in()["access_token"]) == at_once["kid"]
    names = [name for name, _ in events(fresh_database)]
    assert names == ["key.created"] * 4 + ["keys.rewrapped", "key.revoked"]
    with fresh_database.connect() as connection:
        query = text("SELECT DISTINCT actor_id FROM audit_events WHERE event = 'key.revoked'")
        assert connection.execute(query).scalar_one() == admin.id


def test_a_key_that_an_administrator_revokes_is_refused_by_that_worker_at_once(admin: Admin) -> None:
    kid = jwt.get_unverified_header(admin.token)["kid"]

    ask(admin, "POST", f"/{kid}/revoke", reason="a drill")

    assert error_of(admin.api.me(admin.token)) == (401, "token_expired")
    assert kid not in key_set(admin.api)
    assert admin.api.me(admin.api.log_in(admin.email)["access_token"]).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/nobody/revoke", {"reason": "x"}, 404),
        ("/nobody/revoke", {"reason": ""}, 400),
        ("/nobody/revoke", {"reason": "x" * 201}, 400),
        ("/nobody/revoke", {}, 400),
        ("/prepare", {"algorithm": "none"}, 400),
        ("/nobody/revoke", {"reason": "a\nb"}, 400),
        ("/nobody/revoke", {"reason": "\x1b[2J"}, 400),
        ("/nobody/revoke", {"reason": "a\u2028b"}, 400),
        ("/rotate", {"now": "soon"}, 400),
        ("/rotate", {"now": "yes"}, 400),
        ("/rotate", {"now": 1}, 400),
    ],
)
def test_what_is_no_command_for_a_key_is_refused(
    admin: Admin, path: str, body: dict[str, Any], status: int
) -> None:
    response = admin.api.http.post(KEYS + path, json=body, headers=bearer(admin.token))

    assert response.status_code == status


def test_no_answer_has_a_private_key(admin: Admin, fresh_database: Engine) -> None:
    said = json.dumps([ask(admin, "GET"), ask(admin, "POST", "/rotate"), key_set(admin.api)])

    assert '"d"' not in said
    assert "encrypted" not in said
    for row in rows(fresh_database):
        assert bytes(row.encrypted_private_key).hex() not in said
