"""Sibling services hear at once of every access token that they must not believe any more."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from app.services.delivery.cursor import Cursor, Snapshot
from tests.support import (
    PASSWORD,
    Api,
    MakeService,
    MovableClock,
    bearer,
    error_of,
    eventually,
)
from tests.support.accounts import Admin, session_of
from tests.support.siblings import OPERATOR, Sibling


def test_a_logout_is_published_with_its_session(api: Api) -> None:
    sibling, pair = Sibling(api), api.log_in()
    _, cursor = sibling.read()

    api.log_out(pair["access_token"])

    published, after = sibling.read(cursor)
    assert [item["sid"] for item in published] == [session_of(pair)]
    assert {"sub": None, "issued_before": None, "role": None, "reason": "logout_all"}.items() <= published[
        0
    ].items()
    assert sibling.read(after)[0] == []


def test_a_new_password_is_published_as_the_end_of_all_sessions_before_it(api: Api) -> None:
    sibling, email = Sibling(api), api.new_user()
    pairs = [api.log_in(email) for _ in range(2)]
    _, cursor = sibling.read()
    body = {"current_password": PASSWORD, "new_password": "another horse staple"}

    changed = api.http.put("/api/v1/me/password", json=body, headers=bearer(pairs[0]["access_token"]))

    published, _ = sibling.read(cursor)
    assert {(item["sid"], item["reason"]) for item in published} == {
        (session_of(pair), "password_change") for pair in pairs
    }
    assert session_of(changed.json()) not in {item["sid"] for item in published}


def test_every_end_of_a_session_is_published(sole_api: Api, sole_database: Engine) -> None:
    sibling, admin = Sibling(sole_api), Admin(sole_api, sole_database)
    _, cursor = sibling.read()
    email = sole_api.new_user()
    pairs = [sole_api.log_in(email) for _ in range(3)]
    user_id = sole_api.me(pairs[0]["access_token"]).json()["id"]
    second = sole_api.refresh(pairs[1]["refresh_token"]).json()
    sole_api.refresh(second["refresh_token"])
    sole_api.refresh(pairs[1]["refresh_token"])  # stolen
    sole_api.http.delete("/api/v1/me/sessions", headers=bearer(pairs[0]["access_token"]))
    admin.call("DELETE", f"/{user_id}/sessions")

    published, _ = sibling.read(cursor)

    assert [(item["sid"], item["reason"]) for item in published] == [
        (session_of(pairs[1]), "reuse_detected"),
        (session_of(pairs[2]), "logout_all"),
        (session_of(pairs[0]), "admin"),
    ]


def test_a_role_an_end_and_a_deletion_of_a_user_are_published(sole_api: Api, sole_database: Engine) -> None:
    sibling, admin = Sibling(sole_api), Admin(sole_api, sole_database)
    pair = sole_api.log_in()
    user_id = sole_api.me(pair["access_token"]).json()["id"]
    _, cursor = sibling.read()
    admin.change(user_id, role="guest")
    admin.change(user_id, role="guest")
    admin.change(user_id, is_active=False)
    admin.change(user_id, is_active=False)
    admin.call("DELETE", f"/{user_id}")

    published, _ = sibling.read(cursor)

    assert [(item["sub"], item["sid"], item["role"], item["reason"]) for item in published] == [
        (str(user_id), None, "guest", "role_changed"),
        (None, session_of(pair), None, "user_disabled"),
        (str(user_id), None, None, "user_disabled"),
        (str(user_id), None, None, "user_deleted"),
    ]
    assert published[0]["issued_before"] is None
    claims = published[2]["issued_before"], published[2]["expires_at"]
    assert claims[1] - claims[0] == 900 + 10  # siblings believe a token a little longer


def test_a_revocation_is_forgotten_when_its_tokens_have_run_out(start_service: MakeService) -> None:
    clock = MovableClock()
    api = start_service(clock=clock)
    sibling, pair = Sibling(api), api.log_in()
    api.log_out(pair["access_token"])
    sid = session_of(pair)

    def published() -> list[str]:
        return [item["sid"] for item in sibling.read()[0]]

    clock.move(minutes=15, seconds=9)
    assert sid in published()
    clock.move(seconds=1)
    assert sid not in published()


def test_the_clean_up_deletes_what_has_run_out(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    clock = MovableClock()
    api = start_service(clock=clock, database_url=fresh_database_url)
    api.log_out(api.log_in()["access_token"])
    clock.move(minutes=10)
    api.log_out(api.log_in()["access_token"])
    clock.move(minutes=6)

    api.operator.cleanup.prune()

    with fresh_database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM revocations")).scalar_one() == 1


def insert(engine: Engine, sid: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A transaction that has published and is not committed; how to commit and how to roll it back."""
    connection = engine.connect().execution_options(isolation_level="READ COMMITTED")
    connection.execute(
        text(
            "INSERT INTO revocations (session_id, reason, expires_at)"
            " VALUES (CAST(:sid AS uuid), 'logout', now() + interval '15 minutes')"
        ),
        {"sid": sid},
    )

    def end(work: Callable[[], None]) -> None:
        work()
        connection.close()

    return lambda: end(connection.commit), lambda: end(connection.rollback)


SIDS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(6)]


@pytest.mark.parametrize("running", [0, 70, 1000])
def test_a_cursor_is_never_longer_than_what_is_accepted(running: int) -> None:
    ids = [10**10 + number for number in range(running)]
    snapshot = Snapshot.taken(f"{10**10}:{10**10 + running}:{','.join(map(str, ids))}")

    cursor = Cursor("0" * 32, snapshot, snapshot, 10**17)

    assert Cursor.parse(str(cursor)) == cursor
    assert len(str(cursor)) < 2000
    assert snapshot.oldest == 10**10


def test_a_first_listener_that_has_much_to_read_is_not_taken_for_a_slow_one(
    sole_api: Api, sole_database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.delivery.hub._BACKLOG", 5)
    with sole_database.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO revocations (session_id, reason, expires_at) SELECT gen_random_uuid(), 'logout',"
                " now() + interval '15 minutes' FROM generate_series(1, 1500)"
            )
        )
        connection.commit()

    with Sibling(sole_api).stream() as stream:
        read = {stream.next()[1]["sid"] for _ in range(1500)}
        pair = sole_api.log_in()
        sole_api.log_out(pair["access_token"])
        assert stream.next()[1]["sid"] == session_of(pair)

    assert len(read) == 1500


def test_nothing_is_lost_when_transactions_commit_in_another_order(
    sole_api: Api, sole_database: Engine
) -> None:
    sibling = Sibling(sole_api)
    _, cursor = sibling.read()
    commit_0, _ = insert(sole_database, SIDS[0])
    commit_1, _ = insert(sole_database, SIDS[1])
    _, roll_back_2 = insert(sole_database, SIDS[2])
    commit_3, _ = insert(sole_database, SIDS[3])

    heard: list[list[str]] = []
    for end in (commit_3, commit_1, roll_back_2, commit_0):
        end()
        items, cursor = sibling.read(cursor)
        heard.append([item["sid"] for item in items])

    assert heard == [[SIDS[3]], [SIDS[1]], [], [SIDS[0]]]


@pytest.fixture(params=["exact", "rough"])
def _snapshots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rough ones are for times when hundreds of transactions are open."""
    if request.param == "rough":
        monkeypatch.setattr("app.services.delivery.cursor._MOST_RUNNING", -1)


@pytest.mark.usefixtures("_snapshots")
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_nothing_is_lost_between_pages_while_others_commit(
    sole_api: Api, sole_database: Engine, limit: int
) -> None:
    sibling = Sibling(sole_api)
    commits = [insert(sole_database, sid)[0] for sid in SIDS]
    for number in (1, 3, 5):
        commits[number]()

    page = sibling.page(limit=limit).json()
    heard = [item["sid"] for item in page["revocations"]]
    for number in (0, 2, 4):
        commits[number]()
    items, cursor = sibling.read(page["cursor"], limit=limit)
    heard += [item["sid"] for item in items]

    assert sorted(set(heard)) == SIDS
    assert {item["sid"] for item in sibling.read(cursor)[0]} <= set(SIDS)


def test_each_items_cursor_continues_after_it(sole_api: Api, sole_database: Engine) -> None:
    sibling = Sibling(sole_api)
    for sid in SIDS[:4]:
        insert(sole_database, sid)[0]()
    items, _ = sibling.read()

    for position, item in enumerate(items):
        following, _ = sibling.read(item["cursor"])
        assert [each["sid"] for each in following] == SIDS[position + 1 : 4]


def test_fifty_writers_at_once_are_all_heard(sole_api: Api, sole_database: Engine) -> None:
    sibling = Sibling(sole_api)
    _, cursor = sibling.read()
    heard: list[str] = []
    sids = [f"00000000-0000-4000-8000-{number:012}" for number in range(200)]

    def write(part: list[str]) -> None:
        for sid in part:
            insert(sole_database, sid)[0]()

    writers = [threading.Thread(target=write, args=(sids[start::4],)) for start in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        items, cursor = sibling.read(cursor, limit=7)
        heard += [item["sid"] for item in items]
    items, cursor = sibling.read(cursor)
    heard += [item["sid"] for item in items]

    assert sorted(heard) == sids


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "0",
        "1:1:",
        "'",
        "0" * 32 + ".5:1:",
        "0" * 32 + ".1:1:.1:1:",
        "9" * 300,
        "0" * 32 + ".99999999999999999999:1:",
    ],
)
def test_what_is_no_cursor_is_refused(api: Api, cursor: str) -> None:
    assert error_of(Sibling(api).page(after=cursor)) == (400, "validation_error")


def test_a_cursor_of_another_history_of_the_database_is_gone(api: Api) -> None:
    sibling = Sibling(api)
    _, cursor = sibling.read()
    other = "0" * 32 + cursor[32:]

    assert error_of(sibling.page(after=other)) == (410, "cursor_expired")


def test_a_stream_begins_with_what_is_there_and_goes_on_with_what_comes(sole_api: Api) -> None:
    sibling, before, after = Sibling(sole_api), sole_api.log_in(), sole_api.log_in()
    sole_api.log_out(before["access_token"])

    with sibling.stream() as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store"
        cursor, item = stream.next()
        assert (item["sid"], item["cursor"]) == (session_of(before), cursor)
        sole_api.log_out(after["access_token"])
        cursor, item = stream.next()
        assert item["sid"] == session_of(after)

    third = sole_api.log_in()
    sole_api.log_out(third["access_token"])
    with sibling.stream(cursor) as stream:
        assert stream.next()[1]["sid"] == session_of(third)


def test_a_stream_hears_of_what_another_replica_does(
    start_service: MakeService, fresh_database_url: str
) -> None:
    one, other = (start_service(database_url=fresh_database_url) for _ in range(2))
    pair = one.log_in()

    with Sibling(one).stream() as stream:
        other.log_out(pair["access_token"])
        assert stream.next()[1]["sid"] == session_of(pair)


def test_a_stream_ends_when_its_connection_to_the_database_is_lost_and_nothing_is(
    sole_api: Api, sole_database: Engine
) -> None:
    """The connection that listens is lost; the one second's look finds what comes."""
    sibling, pair = Sibling(sole_api), sole_api.log_in()
    terminate = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )

    def ended() -> bool:
        with sole_database.connect() as connection:
            return bool(connection.execute(terminate).scalar_one())

    with sibling.stream() as stream:
        eventually(ended)
        sole_api.log_out(pair["access_token"])
        assert stream.next()[1]["sid"] == session_of(pair)


def test_listeners_are_counted_and_forgotten(sole_api: Api) -> None:
    sibling = Sibling(sole_api)

    with sibling.stream(), sibling.stream():
        eventually(lambda: sole_api.metric("app_revocation_listeners") == 2)

    eventually(lambda: sole_api.metric("app_revocation_listeners") == 0)


def test_a_stream_of_a_revoked_service_token_ends(sole_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("app.services.delivery.hub", "app.routers.revocations"):
        monkeypatch.setattr(f"{module}.HEARTBEAT_SECONDS", 0.1)
    sibling = Sibling(sole_api)

    with sibling.stream() as stream:
        sole_api.operator.service_tokens.revoke(OPERATOR, str(sibling.stored.id))
        assert stream.ends()


def test_a_stream_of_a_revoked_service_token_ends_also_while_revocations_flow(
    sole_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.routers.revocations.HEARTBEAT_SECONDS", 0)
    sibling = Sibling(sole_api)

    with sibling.stream() as stream:
        sole_api.operator.service_tokens.revoke(OPERATOR, str(sibling.stored.id))
        sole_api.log_out(sole_api.log_in()["access_token"])
        with pytest.raises(EOFError):
            stream.next()


def test_a_stream_says_at_its_beginning_that_it_is_refused(api: Api) -> None:
    headers = bearer(Sibling(api).token) | {"Accept": "text/event-stream"}

    refused = api.http.get("/api/v1/revocations", params={"after": "x"}, headers=headers)

    assert error_of(refused) == (400, "validation_error")
