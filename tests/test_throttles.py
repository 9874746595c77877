"""How often somebody may try, and that nobody else pays for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jose import jwt
from sqlalchemy import Engine, event, text

from app.cli.running import OPERATOR
from app.database_settings import POOL_SIZE
from app.errors import TooManyRequests
from app.resources import BACKGROUND_CONNECTIONS
from app.security.devices import DeviceCookies
from app.security.throttle_keys import ThrottleKeys
from app.services.protection.hashing import HashingPool
from app.services.protection.password_policy import NewPassword
from app.services.protection.throttling import Charge, ThrottleService
from app.setting_types import Rate
from tests.support import (
    PASSWORD,
    Api,
    Lines,
    MakeService,
    MovableClock,
    OwnServer,
    at_once,
    bearer,
    error_of,
    eventually,
    new_email,
    patient,
    until_blocked,
)
from tests.support.accounts import Admin
from tests.support.hashing import full_hashing, in_hashing
from tests.support.settings import SECRET_KEY

WRONG = "another password"
REFUSED = (429, "too_many_requests")
FAILED = (401, "invalid_credentials")
Limited = Callable[..., Api]


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def limited(start_service: MakeService, fresh_database_url: str, clock: MovableClock) -> Limited:
    """A service with the limits of the defaults; others than those of accounts are out of the way."""

    def start(**given: Any) -> Api:
        roomy = {f"throttle_{bucket}": "9999/1s" for bucket in ("login_address", "register_address")}
        return start_service(
            clock=clock, **({"database_url": fresh_database_url, "throttles": True} | roomy | given)
        )

    return start


@pytest.fixture
def api(limited: Limited) -> Api:
    return limited()


def guess(
    api: Api, email: str, times: int = 1, headers: dict[str, str] | None = None
) -> list[httpx.Response]:
    form = {"username": email, "password": WRONG}
    return [api.http.post("/api/v1/token", data=form, headers=headers) for _ in range(times)]


def outcomes(responses: list[httpx.Response]) -> list[int]:
    return [response.status_code for response in responses]


def wait_of(response: httpx.Response) -> int:
    """Seconds."""
    assert error_of(response) == REFUSED
    return int(response.headers["retry-after"])


def device_of(login: httpx.Response) -> dict[str, str]:
    """The headers of a browser that has logged in before."""
    assert login.status_code == 200, login.text
    return {"Cookie": f"device={login.cookies['device']}"}


def log_in(api: Api, email: str, headers: dict[str, str] | None = None) -> httpx.Response:
    form = {"username": email, "password": PASSWORD}
    return api.http.post("/api/v1/token", data=form, headers=headers)


def change_password(api: Api, token: str, current: str) -> httpx.Response:
    body = {"current_password": current, "new_password": "a new password"}
    return api.http.put("/api/v1/me/password", json=body, headers=bearer(token))


def rows(engine: Engine, query: str, **parameters: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(query), parameters).all())


def set_failures(engine: Engine, number: int) -> None:
    with engine.connect() as connection:
        connection.execute(text("UPDATE consecutive_failures SET failures = :n"), {"n": number})


# Each bucket: burst and refill


def test_an_account_takes_ten_guesses_and_then_one_a_minute(api: Api, clock: MovableClock) -> None:
    email = api.new_user()

    assert outcomes(guess(api, email, 12)) == [401] * 10 + [429] * 2
    for _ in range(3):
        clock.move(seconds=59)
        assert outcomes(guess(api, email)) == [429]
        clock.move(seconds=1)
        assert outcomes(guess(api, email, 2)) == [401, 429]
    clock.move(minutes=10)
    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]


def test_a_right_password_is_refused_like_a_wrong_one(api: Api) -> None:
    email = api.new_user()
    guess(api, email, 10)

    wrong, right = guess(api, email)[0], log_in(api, email)

    assert error_of(right) == error_of(wrong) == REFUSED
    assert (right.text, right.headers["retry-after"]) == (wrong.text, wrong.headers["retry-after"])


def test_an_address_fails_sixty_times_and_then_every_two_seconds(
    limited: Limited, clock: MovableClock
) -> None:
    api = limited(throttle_login_address="60/2s")

    spread = [guess(api, new_email())[0] for _ in range(62)]

    assert outcomes(spread) == [401] * 60 + [429] * 2
    assert wait_of(spread[-1]) == 2
    clock.move(seconds=2)
    assert outcomes(guess(api, new_email(), 2)) == [401, 429]


def test_an_address_registers_forty_times_and_then_every_ten_seconds(
    limited: Limited, clock: MovableClock
) -> None:
    api = limited(throttle_register_address="40/10s")
    taken = api.register().json()["email"]

    answers = [api.register(taken), *(api.register() for _ in range(39))]

    assert outcomes(answers) == [409] + [201] * 38 + [429]
    assert wait_of(answers[-1]) == 10
    clock.move(seconds=10)
    assert outcomes([api.register(), api.register()]) == [201, 429]


def test_a_password_that_is_too_short_is_no_registration(limited: Limited) -> None:
    api = limited(throttle_register_address="1/1h")

    short = api.register(password="short")

    assert error_of(short) == (400, "validation_error")
    assert api.register().status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/v1/me/password", {"current_password": WRONG, "new_password": "a new password"}),
        ("POST", "/api/v1/me/delete", {"password": WRONG}),
    ],
)
def test_a_signed_in_user_proves_the_password_with_five_failures(
    api: Api, clock: MovableClock, method: str, path: str, body: dict[str, str]
) -> None:
    token = bearer(api.log_in()["access_token"])

    def prove(times: int) -> list[httpx.Response]:
        return [api.http.request(method, path, json=body, headers=token) for _ in range(times)]

    answers = prove(7)

    assert outcomes(answers) == [401] * 5 + [429] * 2
    assert wait_of(answers[-1]) == 60
    clock.move(seconds=60)
    assert outcomes(prove(2)) == [401, 429]


def test_a_stolen_session_does_not_keep_another_one_from_a_new_password(api: Api) -> None:
    email = api.new_user()
    stolen, own = (api.log_in(email)["access_token"] for _ in range(2))

    assert outcomes([change_password(api, stolen, WRONG) for _ in range(7)]) == [401] * 5 + [429] * 2

    assert change_password(api, own, PASSWORD).status_code == 200
    assert error_of(change_password(api, stolen, WRONG)) == (401, "token_revoked")


def test_tokens_without_a_session_share_the_failures_of_their_user(api: Api) -> None:
    claims = jwt.get_unverified_claims(api.log_in()["access_token"])
    del claims["sid"]
    tokens = [
        jwt.encode(claims | {"jti": str(number)}, SECRET_KEY, headers={"typ": "at+jwt"})
        for number in range(2)
    ]

    answers = [change_password(api, tokens[number % 2], WRONG) for number in range(6)]

    assert outcomes(answers) == [401] * 5 + [429]


def test_a_password_that_was_proved_costs_nothing(api: Api, fresh_database: Engine) -> None:
    """The last administrator's account cannot be deleted, but the password was right."""
    token = bearer(Admin(api, fresh_database).token)

    def delete() -> httpx.Response:
        return api.http.post("/api/v1/me/delete", json={"password": PASSWORD}, headers=token)

    assert {error_of(delete()) for _ in range(8)} == {(409, "last_admin")}


def test_the_wait_is_rounded_up_and_true(api: Api, clock: MovableClock) -> None:
    email = api.new_user()
    guess(api, email, 10)
    clock.move(milliseconds=100)

    refused = guess(api, email)[0]

    assert wait_of(refused) == 60
    clock.move(seconds=wait_of(refused))
    assert outcomes(guess(api, email)) == [401]


def test_the_wait_is_that_of_the_bucket_that_takes_longest(limited: Limited) -> None:
    api = limited(throttle_login_address="10/2s")
    email = api.new_user()

    guess(api, email, 10)

    assert wait_of(guess(api, email)[0]) == 60
    assert wait_of(guess(api, new_email())[0]) == 2


# What is charged, and to whom


def test_a_success_costs_nothing(limited: Limited) -> None:
    api = limited(throttle_login_address="3/1h", throttle_login_account="3/1h")
    email = api.new_user()

    assert outcomes([log_in(api, email) for _ in range(8)]) == [200] * 8
    assert outcomes(guess(api, email, 4)) == [401] * 3 + [429]


def test_a_refused_attempt_charges_nothing(limited: Limited) -> None:
    api = limited(throttle_login_address="12/1h")
    email = api.new_user()

    guess(api, email, 40)  # ten are charged to the account, and the same ten to the address

    assert outcomes([guess(api, new_email())[0] for _ in range(3)]) == [401, 401, 429]


def test_an_account_that_does_not_exist_answers_like_one_that_does(api: Api) -> None:
    known, unknown = guess(api, api.new_user(), 12), guess(api, new_email(), 12)
    no_email = guess(api, "no email at all", 12)

    for others in (unknown, no_email):
        for one, other in zip(known, others, strict=True):
            assert (one.status_code, one.text) == (other.status_code, other.text)
            assert one.headers.get("retry-after") == other.headers.get("retry-after")


def test_known_and_unknown_accounts_take_the_same_statements(api: Api) -> None:
    known, seen = api.new_user(), []
    engine = api.container.resources.requests.engine
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(str(args[2])))

    def statements(username: str) -> list[str]:
        seen.clear()
        guess(api, username)
        return list(seen)

    assert statements(known) == statements(new_email())
    guess(api, known, 10)
    guess(api, unknown := new_email(), 11)
    assert statements(known) == statements(unknown)


def test_spellings_of_an_email_share_its_guesses(api: Api) -> None:
    api.register("josé@bücher.example")
    spellings = [
        "josé@bücher.example",
        "JOSÉ@BÜCHER.EXAMPLE",
        " jose\u0301@bu\u0308cher.example\t",
        "josé@xn--bcher-kva.example",
        "JOSE\u0301@XN--BCHER-KVA.example",
    ]

    answers = [guess(api, spelling)[0] for spelling in spellings * 3]

    assert outcomes(answers) == [401] * 10 + [429] * 5


def test_a_lost_device_cookie_gives_no_more_guesses(api: Api) -> None:
    email = api.new_user()
    known = device_of(log_in(api, email))

    assert outcomes(guess(api, email, 11, known)) == [401] * 10 + [429]
    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]
    assert outcomes(guess(api, email, 1, known)) == [429]


def test_the_owner_logs_in_on_a_known_device_while_a_guesser_has_used_up_the_account(
    api: Api, clock: MovableClock
) -> None:
    email = api.new_user()
    known = device_of(log_in(api, email))
    guess(api, email, 20)

    own = log_in(api, email, known)

    assert own.status_code == 200
    assert own.cookies["device"] == known["Cookie"].removeprefix("device=")
    assert outcomes([log_in(api, email)]) == [429]  # elsewhere it is as before
    clock.move(days=399)
    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]
    assert log_in(api, email, known).status_code == 200


def test_the_owner_logs_in_on_a_known_device_from_the_address_of_a_guesser(limited: Limited) -> None:
    api = limited(throttle_login_address="3/1h")
    email = api.new_user()
    known = device_of(log_in(api, email))

    guess(api, email, 4)

    assert log_in(api, email, known).status_code == 200
    assert outcomes(guess(api, email, 11, known)) == [401] * 10 + [429]  # it pays for itself
    assert outcomes([log_in(api, email)]) == [429]


def test_a_device_cookie_is_of_one_user_and_cannot_be_forged(api: Api) -> None:
    email, other = api.new_user(), api.new_user()
    mine, theirs = log_in(api, email).cookies["device"], log_in(api, other).cookies["device"]
    claim, _, seal = mine.rpartition(".")
    user_id, nonce = claim.split(".")
    guess(api, email, 10)

    for forged in (
        theirs,
        f"{claim}.{theirs.rpartition('.')[2]}",
        f"{int(user_id) + 1}.{nonce}.{seal}",
        f"{user_id}.{nonce}x.{seal}",
        f"0{mine}",
        f"{user_id}.{nonce}.",
        user_id,
        "",
    ):
        answer = log_in(api, email, {"Cookie": f"device={forged}"})
        assert error_of(answer) == REFUSED, forged


def test_without_cookies_there_are_no_devices(limited: Limited) -> None:
    api = limited(auth_cookies=False)
    email = api.new_user()

    assert "set-cookie" not in log_in(api, email).headers


def test_another_site_has_no_device(api: Api) -> None:
    email = api.new_user()
    known = device_of(log_in(api, email))
    guess(api, email, 10)

    from_elsewhere = log_in(api, email, known | {"Sec-Fetch-Site": "cross-site"})

    assert error_of(from_elsewhere) == REFUSED
    assert "set-cookie" not in from_elsewhere.headers


def test_addresses_of_one_ipv6_subscriber_share_a_bucket(limited: Limited) -> None:
    """A /48 is 65,536 of them, though: what holds there is the limit of each account."""
    api = limited(throttle_login_address="2/1h")

    def attempt(address: str) -> int:
        return outcomes(guess(api, new_email(), headers={"X-Forwarded-For": address}))[0]

    assert [attempt(f"2001:db8:1:1::{host}") for host in (1, 2, "ffff:1")] == [401, 401, 429]
    assert [attempt(f"2001:db8:1:{net}::1") for net in range(2, 6)] == [401] * 4
    assert [attempt(address) for address in ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1")] == [401, 401, 429]


def test_those_whose_address_is_unknown_share_a_bucket(limited: Limited) -> None:
    api = limited(throttle_login_address="2/1h")

    def attempt(address: str) -> int:
        return outcomes(guess(api, new_email(), headers={"X-Forwarded-For": address}))[0]

    assert [attempt(garbage) for garbage in ("unknown", "_hidden", "1.2.3", "a:b:c")] == [401, 401, 429, 429]
    assert attempt("192.0.2.9") == 401


@pytest.mark.parametrize(
    ("forwarded", "seen"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),  # a client adds addresses on the left alone
        ("203.0.113.7, 127.0.0.1", "203.0.113.7"),
        ("198.51.100.1, 127.0.0.1, 203.0.113.7, 127.0.0.1", "203.0.113.7"),
        ("127.0.0.1, 203.0.113.7:4711", "203.0.113.7"),
        ("198.51.100.1, garbage", None),
    ],
)
def test_of_forwarded_addresses_the_first_from_the_right_that_is_no_proxy_counts(
    api: Api, fresh_database: Engine, forwarded: str, seen: str | None
) -> None:
    """The tests' server trusts 127.0.0.1, as uvicorn does unless FORWARDED_ALLOW_IPS says otherwise."""
    guess(api, new_email(), headers={"X-Forwarded-For": forwarded})

    query = "SELECT host(ip_address) FROM audit_events WHERE event = 'login.failed'"
    assert rows(fresh_database, query) == [(seen,)]


# Nobody pays for our overload


def test_a_full_queue_is_no_guess(limited: Limited) -> None:
    api = limited(throttle_login_account="2/1h", throttle_register_address="2/1h", throttle_proof="2/1h")
    email = api.new_user()
    token = bearer(api.log_in(email)["access_token"])
    change = {"current_password": PASSWORD, "new_password": "a new password"}
    with full_hashing(api):
        for _ in range(4):
            assert error_of(log_in(api, email)) == (503, "unavailable")
            assert error_of(api.register()) == (503, "unavailable")
            refused = api.http.put("/api/v1/me/password", json=change, headers=token)
            assert error_of(refused) == (503, "unavailable")

    assert outcomes(guess(api, email, 3)) == [401, 401, 429]
    assert api.register().status_code == 201


def test_a_failure_of_ours_is_no_guess(limited: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
    api = limited(throttle_login_account="2/1h")
    email = api.new_user()
    with monkeypatch.context() as broken:
        broken.setattr(HashingPool, "verify", lambda *_: 1 / 0)
        assert {error_of(log_in(api, email)) for _ in range(4)} == {(500, "internal_error")}

    assert outcomes(guess(api, email, 3)) == [401, 401, 429]


# All replicas together


def test_two_replicas_count_together(limited: Limited) -> None:
    one, other = limited(), limited()
    email = one.new_user()

    assert outcomes(guess(one, email, 5) + guess(other, email, 5)) == [401] * 10
    assert outcomes(guess(one, email) + guess(other, email)) == [429, 429]


def test_of_thirty_at_the_last_token_one_gets_it(
    limited: Limited, fresh_database_url: str, fresh_database: Engine
) -> None:
    """All that have a connection wait for the same row, and go on at the same moment."""
    replicas = [limited(database_url=patient(fresh_database_url)) for _ in range(2)]
    email = replicas[0].new_user()
    guess(replicas[0], email, 9)

    with fresh_database.execution_options(isolation_level="READ COMMITTED").connect() as other:
        other.execute(text("SELECT FROM throttles FOR UPDATE"))
        with ThreadPoolExecutor(30) as threads:
            attempts = [threads.submit(guess, replicas[number % 2], email) for number in range(30)]
            writing = 2 * (POOL_SIZE - BACKGROUND_CONNECTIONS - 1)
            until_blocked(fresh_database, writing)
            other.rollback()
    answers = [attempt.result()[0] for attempt in attempts]

    assert sorted(outcomes(answers)) == [401] + [429] * 29


def test_thirty_at_an_unused_bucket_get_what_it_holds(limited: Limited) -> None:
    """Each comes from an address of its own: the buckets are locked in an order of their own."""
    api = limited(throttle_login_address="1/1h")
    email = api.new_user()

    answers = at_once(30, lambda n: guess(api, email, headers={"X-Forwarded-For": f"192.0.2.{n}"})[0])

    assert sorted(outcomes(answers)) == [401] * 10 + [429] * 20


def test_crossing_attempts_do_not_block_each_other(limited: Limited) -> None:
    """Two addresses at two accounts, in any order: a deadlock would be 503, or count a token twice."""
    api = limited(throttle_login_account="1000/1h", throttle_login_address="1000/1h")
    emails = [api.new_user(), api.new_user()]

    def attempt(number: int) -> httpx.Response:
        call = log_in if number % 3 == 0 else guess
        headers = {"X-Forwarded-For": f"192.0.2.{number // 2 % 2}"}
        answer = call(api, emails[number % 2], headers=headers)
        return answer if isinstance(answer, httpx.Response) else answer[0]

    answers = at_once(45, attempt)

    assert sorted(outcomes(answers)) == [200] * 15 + [401] * 30
    assert api.metric("app_database_errors_total", sqlstate_class="40") == 0


def test_a_crash_of_the_database_forgives_what_is_recent_and_no_more(
    start_service: MakeService, own_server: OwnServer
) -> None:
    api = start_service(database_url=own_server.url, throttles=True)
    email = api.new_user()
    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]

    own_server.kill()
    own_server.start_again()

    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]
    assert (
        api.operator.resources.requests.execute(text("SELECT max(failures) FROM consecutive_failures"))[0][0]
        == 20
    )


# A hundred in a row


@pytest.mark.slow
def test_after_a_hundred_failures_an_account_is_open_to_its_devices_alone(
    api: Api, clock: MovableClock
) -> None:
    email = api.new_user()
    known = device_of(log_in(api, email))
    failures = 0
    while failures < 100:
        (answer,) = guess(api, email)
        if answer.status_code == 429:
            clock.move(seconds=wait_of(answer))
        failures += answer.status_code == 401
    clock.move(days=365)

    wrong, right = guess(api, email)[0], log_in(api, email)

    assert error_of(wrong) == error_of(right) == REFUSED
    assert wrong.text == right.text
    assert "retry-after" not in right.headers  # no wait would help
    assert "a device that you have used before" in right.json()["detail"]
    assert log_in(api, email, known).status_code == 200
    assert log_in(api, email).status_code == 200  # the count has begun anew


def test_an_account_that_does_not_exist_is_closed_like_one_that_does(
    api: Api, fresh_database: Engine
) -> None:
    known, unknown = api.new_user(), new_email()
    guess(api, known)
    guess(api, unknown)
    set_failures(fresh_database, 99)

    answers = [guess(api, known, 2), guess(api, unknown, 2)]

    assert [outcomes(each) for each in answers] == [[401, 429], [401, 429]]
    assert answers[0][1].text == answers[1][1].text
    assert answers[0][1].headers.keys() == answers[1][1].headers.keys()


def test_a_success_begins_the_count_anew(api: Api, fresh_database: Engine) -> None:
    email = api.new_user()
    guess(api, email, 2)
    set_failures(fresh_database, 99)

    assert log_in(api, email).status_code == 200

    assert rows(fresh_database, "SELECT * FROM consecutive_failures") == []
    assert outcomes(guess(api, email, 2)) == [401, 401]


def test_a_device_that_failed_a_hundred_times_is_a_stranger(api: Api, fresh_database: Engine) -> None:
    email = api.new_user()
    known = device_of(log_in(api, email))
    guess(api, email, 1, known)
    set_failures(fresh_database, 100)

    login = log_in(api, email, known)

    assert device_of(login) != known
    guess(api, email, 10)
    assert outcomes(guess(api, email, 1, known)) == [429]


def test_a_signed_in_user_who_failed_a_hundred_times_logs_in_again(api: Api, fresh_database: Engine) -> None:
    """In whatever sessions."""
    email = api.new_user()
    one, other = (api.log_in(email)["access_token"] for _ in range(2))

    change_password(api, one, WRONG)
    set_failures(fresh_database, 99)
    assert error_of(change_password(api, other, WRONG)) == (401, "invalid_credentials")
    assert error_of(change_password(api, one, PASSWORD)) == REFUSED
    assert log_in(api, email).status_code == 200
    assert change_password(api, other, PASSWORD).status_code == 200


def test_what_was_being_hashed_at_the_hundredth_failure_is_refused_unread(
    limited: Limited, busy_hashing: Any, fresh_database: Engine
) -> None:
    """Otherwise ten guesses at once would be ten too many; the right one gets no session either."""
    api = limited()
    email = api.new_user()
    guess(api, email)
    set_failures(fresh_database, 99)
    busy_hashing.clear()

    def attempt(number: int) -> httpx.Response:
        if number == 8:
            eventually(lambda: in_hashing(api) == 8)
            set_failures(fresh_database, 100)
            busy_hashing.set()
            return guess(api, new_email())[0]
        return log_in(api, email) if number % 2 else guess(api, email)[0]

    answers = at_once(9, attempt)

    assert {error_of(answer) for answer in answers[:8]} == {REFUSED}
    assert len({answer.text for answer in answers[:8]}) == 1
    assert rows(fresh_database, "SELECT count(*) FROM refresh_tokens") == [(0,)]


def test_a_stranger_cannot_close_an_account_before_it_exists(api: Api, fresh_database: Engine) -> None:
    email = new_email()
    guess(api, email, 11)
    set_failures(fresh_database, 100)

    api.register(email)

    assert log_in(api, email).status_code == 200
    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]


def test_an_operator_unlocks_an_account(api: Api, fresh_database: Engine) -> None:
    email = api.new_user()
    guess(api, email, 10)
    set_failures(fresh_database, 100)
    assert error_of(log_in(api, email)) == REFUSED

    api.operator.unlocking.unlock(OPERATOR, api.operator.admin.find(email))

    assert log_in(api, email).status_code == 200
    assert rows(fresh_database, "SELECT actor_id FROM audit_events WHERE event = 'user.unlocked'") == [
        (None,)
    ]


def test_a_new_password_opens_a_closed_account(api: Api, fresh_database: Engine) -> None:
    email = api.new_user()
    guess(api, email, 10)
    set_failures(fresh_database, 100)

    user_id = api.operator.admin.find(email).id
    api.operator.password_change.set(OPERATOR, user_id, NewPassword("a new password", email))

    assert api.token(email, "a new password").status_code == 200


# What is kept


def test_no_email_and_no_address_is_in_the_tables(api: Api, fresh_database: Engine) -> None:
    email = api.new_user()
    guess(api, email, 11, headers={"X-Forwarded-For": "203.0.113.7"})

    kept = rows(fresh_database, "SELECT key FROM throttles UNION ALL SELECT key FROM consecutive_failures")

    assert {len(bytes(key)) for (key,) in kept} == {32}
    columns = rows(
        fresh_database,
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name IN ('throttles', 'consecutive_failures')",
    )
    assert {name for (name,) in columns} == {"key", "tat", "user_id", "failures", "failed_at"}


def test_a_device_is_plain_ascii() -> None:
    devices = DeviceCookies([b"a" * 32])

    assert devices.is_known(devices.issue(7), 7)
    assert not devices.is_known("7.é.é", 7)


def test_keys_differ_by_scope_value_and_secret() -> None:
    keys, others = ThrottleKeys(b"a" * 32), ThrottleKeys(b"b" * 32)

    made = [keys.of("a", "bc"), keys.of("ab", "c"), keys.of("a", "b"), others.of("a", "bc")]

    assert len(set(made)) == 4
    assert keys.of("a", "\ud800")  # what no client can send in UTF-8 is no failure
    assert "aaa" not in repr(keys)


def test_the_clean_up_takes_what_is_due(api: Api, clock: MovableClock, fresh_database: Engine) -> None:
    email, stranger = api.new_user(), new_email()
    guess(api, email, 10)
    guess(api, stranger)
    clock.move(seconds=600)
    api.operator.cleanup.prune()
    assert rows(fresh_database, "SELECT count(*) FROM throttles") == [(0,)]
    assert rows(fresh_database, "SELECT count(*) FROM consecutive_failures") == [(2,)]

    clock.move(days=90)
    api.operator.cleanup.prune()

    assert rows(fresh_database, "SELECT failures FROM consecutive_failures") == [(10,)]
    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]


def test_a_clock_that_was_far_ahead_closes_nothing(api: Api, clock: MovableClock) -> None:
    email = api.new_user()
    clock.move(days=30)
    guess(api, email, 10)
    clock.move(days=-30)

    assert outcomes(guess(api, email, 11)) == [401] * 10 + [429]


def test_without_throttles_nothing_is_counted(limited: Limited, fresh_database: Engine) -> None:
    api = limited(throttles=False)
    email = api.new_user()

    assert outcomes(guess(api, email, 30)) == [401] * 30
    assert rows(fresh_database, "SELECT count(*) FROM throttles") == [(0,)]
    assert rows(fresh_database, "SELECT count(*) FROM consecutive_failures") == [(0,)]


# What operators see


@pytest.fixture
def logged(limited: Limited, lines: Lines) -> Api:
    """A service that logs to `lines`, which must be there before."""
    assert lines.lines == []
    return limited(log_level="WARNING", log_format="json")


def test_a_refusal_is_counted_and_logged_and_is_audited_once_in_ten_minutes(
    logged: Api, clock: MovableClock, fresh_database: Engine, lines: Lines
) -> None:
    api, email = logged, logged.new_user()
    user_id = api.me(api.log_in(email)["access_token"]).json()["id"]
    guess(api, email, 15)

    throttled = lines.events("login.throttled")
    assert len(throttled) == 5
    assert {
        (line["bucket"], line["user_id"], line["retry_after"], line["ip_address"]) for line in throttled
    } == {("login_account", user_id, 60, "127.0.0.1")}
    assert api.metric("app_throttled_total", bucket="login_account") == 5
    query = "SELECT user_id, actor_id, details FROM audit_events WHERE event = 'login.throttled'"
    once = [(user_id, None, {"bucket": "login_account"})]
    assert rows(fresh_database, query) == once
    clock.move(minutes=10)
    guess(api, email, 15)
    assert rows(fresh_database, query) == once * 2


def test_a_refused_address_is_in_the_audit_trail_with_no_account(
    limited: Limited, fresh_database: Engine
) -> None:
    api = limited(throttle_login_address="2/1h")
    email = api.new_user()

    for _ in range(5):
        guess(api, email)
        guess(api, new_email())

    query = "SELECT user_id, details FROM audit_events WHERE event = 'login.throttled'"
    assert rows(fresh_database, query) == [(None, {"bucket": "login_address"})]


# The settings


@pytest.mark.parametrize(
    ("given", "burst", "seconds"),
    [("10/60s", 10, 60), ("3/20m", 3, 1200), ("1/1h", 1, 3600), (" 60/2s ", 60, 2)],
)
def test_a_rate_is_a_burst_and_the_time_for_one_more(given: str, burst: int, seconds: int) -> None:
    rate = Rate.parse(given)

    assert rate == Rate(burst, timedelta(seconds=seconds))
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize("given", ["", "10", "0/1s", "10/0s", "10/s", "10/1d", "-1/1s", "1.5/1s", "1/1.5s"])
def test_what_is_no_rate_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="10/60s"):
        Rate.parse(given)


# The algorithm, against a bucket of tokens


@pytest.fixture(scope="module")
def throttle(start_lasting_service: MakeService) -> ThrottleService:
    return start_lasting_service(throttles=True).operator._throttle


@given(
    bursts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    periods=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    pauses=st.lists(st.integers(0, 7), max_size=30),
    seed=st.binary(min_size=16, max_size=16),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_a_bucket_of_tokens(
    throttle: ThrottleService, bursts: list[int], periods: list[int], pauses: list[int], seed: bytes
) -> None:
    now = datetime.now(UTC)
    moved = ThrottleService(throttle.db, throttle.keys, {}, lambda: now, throttle.metrics)
    rates = [Rate(burst, timedelta(seconds=p)) for burst, p in zip(bursts, periods, strict=False)]
    charges = [
        Charge(str(number), throttle.keys.of(str(number), seed.hex() + now.isoformat()), rate)
        for number, rate in enumerate(rates)
    ]
    tokens = [float(rate.burst) for rate in rates]
    for pause in pauses:
        now += timedelta(seconds=pause)
        for number, rate in enumerate(rates):
            tokens[number] = min(rate.burst, tokens[number] + pause / rate.period.total_seconds())
        missing = [
            round((1 - held) * rate.period.total_seconds()) for held, rate in zip(tokens, rates, strict=True)
        ]
        assert charge(moved, charges) == max(0, *missing, 0)
        if max(missing) <= 0:
            tokens = [held - 1 for held in tokens]


def charge(throttle: ThrottleService, charges: list[Charge]) -> int | None:
    """The wait in seconds; 0 if they were charged."""
    try:
        throttle.charge(charges)
    except TooManyRequests as refused:
        return refused.retry_after
    return 0
