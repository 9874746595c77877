"""The hashing queue is shared fairly, and nobody hashes for a client that has left."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from app.application import create_app
from app.security.passwords import PasswordHasher
from app.services.protection.fair_queue import FairQueue
from app.services.protection.hashing_slots import HashingSlots
from app.services.protection.turns import Lane, Turn
from app.telemetry.labels import HASHING_LANES
from app.telemetry.metrics import Metrics
from tests.support import (
    PASSWORD,
    PATIENCE_SECONDS,
    Api,
    MakeService,
    Serving,
    bearer,
    error_of,
    eventually,
    make_settings,
    new_email,
)

BUSY, QUIET, QUIETER = "192.0.2.1", "198.51.100.1", "203.0.113.1"
PLACES = 8
FIRST, ANOTHER = "who has the slot", "another good password"


class HeldHashes:
    """Each hash waits until it is let go. `begun` has their passwords, in order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._permits = threading.Semaphore(0)

    def hold(self, password: str) -> None:
        self.begun.append(password)
        assert self._permits.acquire(timeout=PATIENCE_SECONDS)

    def let_go(self, number: int = 1000) -> None:
        self._permits.release(number)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldHashes]:
    held = HeldHashes()
    hash_, verify = PasswordHasher.hash, PasswordHasher.verify

    def held_hash(self: PasswordHasher, password: str) -> str:
        held.hold(password)
        return hash_(self, password)

    def held_verify(self: PasswordHasher, password: str, hashed: str | None) -> bool:
        held.hold(password)
        return verify(self, password, hashed)

    monkeypatch.setattr(PasswordHasher, "hash", held_hash)
    monkeypatch.setattr(PasswordHasher, "verify", held_verify)
    yield held
    held.let_go()


class Crowd:
    """Clients of a service that computes one hash at a time. Each arrives before the next one comes."""

    def __init__(self, api: Api, threads: ThreadPoolExecutor) -> None:
        self.api = api
        self._threads = threads
        self._slots = api.container.resources.hashing.slots
        self._slots.size, self._slots.queue = 1, FairQueue(PLACES)

    def waiting(self) -> float:
        return self.api.metric("app_password_hash_queue")

    def refused(self) -> float:
        return self.api.metric("app_password_hash_rejections_total")

    def abandoned(self) -> float:
        return self.api.metric("app_password_hash_abandoned_total")

    def log_in(
        self, password: str, address: str = BUSY, email: str = "nobody@example.com", device: str = ""
    ) -> Any:
        form, headers = {"username": email, "password": password}, {"Cookie": f"device={device}"}
        return self.call("POST", "/api/v1/token", address, data=form, headers=headers)

    def register(self, password: str, email: str | None = None) -> Any:
        body = {"email": email or new_email(), "password": password}
        return self.call("POST", "/api/v1/users/", BUSY, json=body)

    def call(self, method: str, path: str, address: str, **content: Any) -> Future[httpx.Response]:
        headers = {"X-Forwarded-For": address, **content.pop("headers", {})}
        before = self._arrived()
        answer = self._threads.submit(self.api.http.request, method, path, headers=headers, **content)
        eventually(lambda: self._arrived() > before)
        return answer

    def send(self, method: str, path: str, content_type: str, body: str, *headers: str) -> socket.socket:
        """Sends a request and waits for nothing; closing the socket hangs up."""
        target = urlsplit(self.api.base_url)
        head = [
            f"{method} {path} HTTP/1.1",
            f"Host: {target.netloc}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        before = self._arrived()
        connection = socket.create_connection((target.hostname, target.port))
        connection.sendall("\r\n".join([*head, "", body]).encode())
        eventually(lambda: self._arrived() > before)
        return connection

    def send_login(self, password: str, email: str = "nobody@example.com") -> socket.socket:
        form = urlencode({"username": email, "password": password})
        return self.send("POST", "/api/v1/token", "application/x-www-form-urlencoded", form)

    def _arrived(self) -> float:
        return self._slots.taken + self.waiting() + self.refused() + self.abandoned()


@pytest.fixture
def crowd(start_service: MakeService, held: HeldHashes) -> Iterator[Crowd]:
    with ThreadPoolExecutor(PLACES + 2) as threads:
        yield Crowd(start_service(), threads)
        held.let_go()


def test_nobody_hashes_for_clients_that_have_left(crowd: Crowd, held: HeldHashes) -> None:
    first = crowd.log_in(FIRST)
    leaving = [crowd.send_login(f"leaving {number}") for number in range(5)]
    staying = crowd.log_in("staying")

    for connection in leaving:
        connection.close()

    eventually(lambda: crowd.abandoned() == 5)
    assert crowd.waiting() == 1
    held.let_go()
    assert [each.result().status_code for each in (first, staying)] == [401, 401]
    assert held.begun == [FIRST, "staying"]
    assert crowd.api.metric("app_login_failures_total", reason="unknown_email") == 2
    eventually(lambda: crowd.api.metric("app_database_pool_in_use") == 0)


def test_who_hangs_up_has_used_up_an_attempt(start_service: MakeService, held: HeldHashes) -> None:
    with ThreadPoolExecutor() as threads:
        crowd = Crowd(start_service(throttles=True, throttle_login_address="2/1h"), threads)
        first = crowd.log_in(FIRST, QUIET)
        leaving = [crowd.send_login(f"leaving {number}", new_email()) for number in range(2)]

        for connection in leaving:
            connection.close()

        eventually(lambda: crowd.abandoned() == 2)
        assert error_of(crowd.api.token(new_email())) == (429, "too_many_requests")
        held.let_go()
        assert first.result().status_code == 401


def test_a_hash_whose_client_leaves_keeps_its_slot_to_its_end(crowd: Crowd, held: HeldHashes) -> None:
    leaving = crowd.send_login("a guess")
    eventually(lambda: held.begun == ["a guess"])
    leaving.close()
    answer = crowd.log_in("after it")

    assert crowd.waiting() == 1

    held.let_go()
    assert answer.result().status_code == 401
    assert crowd.api.metric("app_login_failures_total", reason="unknown_email") == 2


def test_a_password_change_whose_client_leaves_before_the_hash_changes_nothing(
    crowd: Crowd, held: HeldHashes
) -> None:
    held.let_go(2)
    email = crowd.api.register().json()["email"]
    token = crowd.api.log_in(email)["access_token"]
    body = f'{{"current_password": "{PASSWORD}", "new_password": "{ANOTHER}"}}'
    authorization = f"Authorization: Bearer {token}"
    leaving = crowd.send("PUT", "/api/v1/me/password", "application/json", body, authorization)
    eventually(lambda: len(held.begun) == 3)
    second = crowd.log_in("second")

    held.let_go(1)  # the current password is right; the new one waits behind the login
    eventually(lambda: crowd.waiting() == 1 and held.begun[-1] == "second")
    leaving.close()

    eventually(lambda: crowd.abandoned() == 1)
    held.let_go()
    assert second.result().status_code == 401
    assert ANOTHER not in held.begun
    assert crowd.api.token(email).status_code == 200
    eventually(lambda: crowd.api.metric("app_database_pool_in_use") == 0)


def test_a_registration_whose_client_leaves_during_the_hash_is_whole(crowd: Crowd, held: HeldHashes) -> None:
    email = new_email()
    body = f'{{"email": "{email}", "password": "{PASSWORD}"}}'

    leaving = crowd.send("POST", "/api/v1/users/", "application/json", body)
    eventually(lambda: held.begun == [PASSWORD])
    leaving.close()

    held.let_go()
    eventually(lambda: crowd.api.metric("app_user_registrations_total", method="password") == 1)
    assert crowd.api.token(email).status_code == 200


def test_addresses_take_turns(crowd: Crowd, held: HeldHashes) -> None:
    answers = [crowd.log_in(FIRST)]
    answers += [crowd.log_in(f"busy {number}", BUSY) for number in range(3)]
    answers += [crowd.log_in("quiet", QUIET), crowd.log_in("quieter", QUIETER)]

    held.let_go()

    assert {answer.result().status_code for answer in answers} == {401}
    assert held.begun == [FIRST, "busy 0", "quiet", "quieter", "busy 1", "busy 2"]


def test_a_64_of_ipv6_takes_one_turn(crowd: Crowd, held: HeldHashes) -> None:
    answers = [crowd.log_in(FIRST)]
    answers += [crowd.log_in(f"from {number}", f"2001:db8::{number}") for number in range(3)]
    answers += [crowd.log_in("neighbour", "2001:db8:0:1::1")]

    held.let_go()

    assert {answer.result().status_code for answer in answers} == {401}
    assert held.begun == [FIRST, "from 0", "neighbour", "from 1", "from 2"]


def test_a_known_device_comes_before_whoever_was_there(crowd: Crowd, held: HeldHashes) -> None:
    held.let_go(2)
    email = crowd.api.register().json()["email"]
    device = crowd.api.token(email).cookies["device"]
    answers = [crowd.log_in(f"busy {number}") for number in range(3)]

    answers += [crowd.log_in("of nobody's", QUIETER, device=device)]
    answers += [crowd.log_in("known", QUIET, email, device)]

    held.let_go()
    assert {answer.result().status_code for answer in answers} == {401}
    assert held.begun.index("known") < held.begun.index("busy 1") < held.begun.index("of nobody's")


def test_logins_go_on_beside_a_flood_of_registrations(crowd: Crowd, held: HeldHashes) -> None:
    answers = [crowd.log_in(FIRST)]
    answers += [crowd.register(f"registration {number}") for number in range(4)]
    answers += [crowd.log_in(f"login {number}") for number in range(4)]

    held.let_go()

    assert {answer.result().status_code for answer in answers} == {201, 401}
    assert sum(password.startswith("login") for password in held.begun[1:7]) == 4


def test_a_signed_in_user_goes_on_beside_a_flood_of_logins(crowd: Crowd, held: HeldHashes) -> None:
    held.let_go(2)
    email = crowd.api.register().json()["email"]
    token = crowd.api.log_in(email)["access_token"]
    answers = [crowd.log_in(f"login {number}") for number in range(6)]

    proof = {"password": "a wrong password"}
    answers.append(crowd.call("POST", "/api/v1/me/delete", QUIET, json=proof, headers=bearer(token)))

    held.let_go()
    assert {answer.result().status_code for answer in answers} == {401}
    assert held.begun.index("a wrong password") < held.begun.index("login 5")


def test_in_a_full_queue_a_quiet_address_takes_the_place_of_a_busy_ones_youngest(
    crowd: Crowd, held: HeldHashes
) -> None:
    answers = [crowd.log_in(FIRST)]
    answers += [crowd.log_in(f"busy {number}") for number in range(PLACES)]

    quiet = crowd.log_in("quiet", QUIET)

    assert error_of(answers[-1].result()) == (503, "unavailable")
    assert crowd.refused() == 1
    held.let_go()
    assert quiet.result().status_code == 401
    assert [answer.result().status_code for answer in answers[:-1]] == [401] * PLACES
    assert held.begun[:3] == [FIRST, "busy 0", "quiet"]
    assert len(held.begun) == PLACES + 1


def test_in_a_full_queue_the_busiest_address_is_refused_and_told_when_to_come_again(
    crowd: Crowd, held: HeldHashes
) -> None:
    answers = [crowd.log_in(f"busy {number}") for number in range(1 + PLACES)]
    crowd.api.container.resources.hashing.slots.seconds = 2.5

    refused = crowd.log_in("one too many").result()

    assert error_of(refused) == (503, "unavailable")
    assert refused.headers["retry-after"] == str(ceil((PLACES + 1) * 2.5))
    held.let_go()
    assert {answer.result().status_code for answer in answers} == {401}


def test_the_metrics_tell_who_waits(crowd: Crowd, held: HeldHashes) -> None:
    answers = [crowd.log_in(FIRST), crowd.log_in("second"), crowd.register("a new password")]

    def lengths() -> list[float]:
        return [crowd.api.metric("app_password_hash_waiting", lane=lane) for lane in HASHING_LANES]

    assert lengths() == [0, 1, 1]
    held.let_go()
    assert [answer.result().status_code for answer in answers] == [401, 401, 201]
    assert lengths() == [0, 0, 0]
    assert list(HASHING_LANES) == list(Lane)


def test_a_server_that_stops_answers_a_full_queue(database_url: str, held: HeldHashes) -> None:
    app = create_app(make_settings(database_url=database_url))
    serving = Serving(app)
    api = Api(serving.base_url, app)
    with ThreadPoolExecutor(PLACES + 2) as threads:
        crowd = Crowd(api, threads)
        answers = [crowd.log_in("guess") for _ in range(1 + PLACES)]

        serving.ask_to_stop()
        held.let_go()

        assert [answer.result().status_code for answer in answers] == [401] * (1 + PLACES)
    serving.join()
    api.close()


def test_a_hash_whose_request_is_cancelled_keeps_its_slot_to_its_end() -> None:
    slots = HashingSlots(1, Metrics(revocation_reasons=(), version="test").hashing)
    turn = Turn(Lane.LOGIN, QUIET)
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        ended.wait()

    async def cancel_the_first() -> tuple[int, int]:
        first = asyncio.create_task(slots.run(turn, hold))
        await asyncio.to_thread(begun.wait)
        second = asyncio.create_task(slots.run(turn, ended.is_set))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        taken_and_waiting = slots.taken, len(slots.queue)
        ended.set()
        assert await second
        return taken_and_waiting

    assert asyncio.run(cancel_the_first()) == (1, 1)
    slots.close()


def test_who_is_cancelled_leaves_the_place_or_the_slot_to_the_next_one() -> None:
    slots = HashingSlots(1, Metrics(revocation_reasons=(), version="test").hashing)
    turn = Turn(Lane.LOGIN, QUIET)

    async def cancel_some() -> list[object]:
        await slots._take(turn)
        tasks = [asyncio.create_task(slots.run(turn, lambda: "hash")) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        slots._give_back()  # to the first one, which is cancelled before it hears of it
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(cancel_some())

    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, asyncio.CancelledError)
    assert third == "hash"
    assert slots.taken == len(slots.queue) == 0
    slots.close()
