"""Who guesses passwords, and what everybody else notices of it.

Hashes cost next to nothing here (4 rounds, which only development allows), as it is attempts that are
counted. Where a second stands for a minute, the limit of an account is 10/1s in place of 10/60s.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final

import httpx

from benchmarks.attack.table import Row, at_most
from benchmarks.attack.target import Start, Target

_PASSWORD = "a password that is on no list"  # noqa: S105 — of accounts that live for a minute
_CHEAP: Final = {
    "ENVIRONMENT": "development",
    "BCRYPT_ROUNDS": "4",
    "FORWARDED_ALLOW_IPS": "127.0.0.1",
}
_SECONDS = 7
_BURST = 10
_CONNECTIONS = 8
_PEOPLE = 40
_MOST_FAILURES = 100


def attack(start: Start) -> Iterator[Row]:
    with start(**_CHEAP, THROTTLE_LOGIN_ACCOUNT=f"{_BURST}/1s") as target:
        for addresses in (1, 1000):
            yield from _one_account(target, addresses)
    with start(**_CHEAP, THROTTLE_LOGIN_ACCOUNT="1000/1s") as target:
        yield _in_a_row(target)
    with start(**_CHEAP) as target:
        yield from _many_accounts(target)
        yield from _an_office(target)


def _one_account(target: Target, addresses: int) -> Iterator[Row]:
    """An hour is that of the defaults."""
    name = f"a list of passwords at one account, from {addresses:,} address{'es' * (addresses > 1)}"
    owner = _Person(target, f"owner{addresses}@example.com", "198.51.100.1")
    guesses, owners = _meanwhile(owner, lambda: _guess(target, lambda _: owner.email, addresses))
    hour = _in_an_hour(guesses, _BURST, 60)
    yield at_most(f"{name}, {len(guesses):,} of them", "guesses that get through in an hour", hour, 75)
    yield _refused(name, "the owner on a known device", owners)


def _in_a_row(target: Target) -> Row:
    email = "victim@example.com"
    _Person(target, email, "198.51.100.2").register()
    guesses = _guess(target, lambda _: email, addresses=1000)
    name = f"the same without a limit for an hour, {len(guesses):,} of them"
    return at_most(name, "guesses that get through, ever", guesses.count(401), _MOST_FAILURES)


def _many_accounts(target: Target) -> Iterator[Row]:
    neighbour = _Person(target, "neighbour@example.com", "203.0.0.0")
    guesses, logins = _meanwhile(
        neighbour, lambda: _guess(target, lambda number: f"person{number % 1000}@example.com", addresses=1)
    )
    hour = _in_an_hour(guesses, 60, 3600)
    name = f"one password at 1,000 accounts, from 1 address, {len(guesses):,} attempts"
    yield at_most(name, "guesses that get through in an hour", hour, 2100)
    yield _refused(name, "somebody at this address on a known device", logins)


def _in_an_hour(guesses: list[int], burst: int, seconds: int) -> float:
    """What came through beyond the burst, in as many `seconds` as an hour has here."""
    beyond = guesses.count(401) - burst
    return burst + beyond * seconds / _SECONDS


def _an_office(target: Target) -> Iterator[Row]:
    """Each of them mistypes the password once."""
    people = [_Person(target, f"clerk{number}@example.com", "198.51.100.3") for number in range(_PEOPLE)]

    def come_in(person: _Person) -> list[int]:
        return [person.register(), person.log_in("mistyped"), person.log_in()]

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        answers = list(itertools.chain(*threads.map(come_in, people)))
    name = f"{_PEOPLE} people behind one address register, mistype and log in, within a minute"
    yield at_most(name, "refused to them", answers.count(429), 0)
    yield at_most(name, "of them not logged in", _PEOPLE - answers.count(200), 0)


class _Person:
    """Who has one browser."""

    def __init__(self, target: Target, email: str, address: str) -> None:
        self.email = email
        self._browser = httpx.Client(
            base_url=target.url("/api/v1"), headers={"X-Forwarded-For": address}, timeout=20
        )
        self._device = ""

    def register(self) -> int:
        return self._browser.post("/users/", json={"email": self.email, "password": _PASSWORD}).status_code

    def log_in(self, password: str = _PASSWORD) -> int:
        """The cookies are Secure, and this connection is not: they are kept by hand."""
        headers = {"Cookie": f"device={self._device}"} if self._device else {}
        form = {"username": self.email, "password": password}
        answer = self._browser.post("/token", data=form, headers=headers)
        self._device = answer.cookies.get("device") or self._device
        return answer.status_code


def _meanwhile(person: _Person, attack: Callable[[], list[int]]) -> tuple[list[int], list[int]]:
    """The statuses of the attack, and those of a person who logs in on a known device all the while."""
    person.register()
    person.log_in()
    with ThreadPoolExecutor(1) as elsewhere:
        over = Event()
        own = elsewhere.submit(_keep_logging_in, person, over)
        try:
            guesses = attack()
        finally:
            over.set()
    return guesses, own.result()


def _refused(name: str, to: str, logins: list[int]) -> Row:
    return at_most(name, f"refused to {to}, of {len(logins)} logins", len(logins) - logins.count(200), 0)


def _keep_logging_in(person: _Person, over: Event) -> list[int]:
    answers = []
    while not over.wait(0.5):
        answers.append(person.log_in())
    return answers


def _guess(target: Target, email: Callable[[int], str], addresses: int) -> list[int]:
    """The statuses of so many guesses as there is time for."""
    until = time.monotonic() + _SECONDS
    numbers = itertools.count()

    def keep_guessing(_: int) -> list[int]:
        answers = []
        with httpx.Client(base_url=target.url("/api/v1"), timeout=20) as client:
            while time.monotonic() < until:
                number = next(numbers)
                address = number % addresses
                answer = client.post(
                    "/token",
                    data={"username": email(number), "password": f"guess {number}"},
                    headers={"X-Forwarded-For": f"203.0.{address // 250}.{address % 250}"},
                )
                answers.append(answer.status_code)
        return answers

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        return list(itertools.chain(*threads.map(keep_guessing, range(_CONNECTIONS))))
