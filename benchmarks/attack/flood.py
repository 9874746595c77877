"""Floods of logins with wrong passwords, and how the honest ones fare beside them.

Addresses come from X-Forwarded-For. Without throttles, the hashing queue alone has to be fair.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.cookies import SimpleCookie
from time import perf_counter
from urllib.parse import urlencode

import httpx
import uvloop

from benchmarks.attack.table import Row, at_least
from benchmarks.attack.target import Start, Target

_SECONDS = 8
_HEAD_START_SECONDS = 3  # then the queue is as full as it gets
_HONEST_A_SECOND = 2
_IN_TIME_SECONDS = 3
_PERCENT = 95
_PEOPLE = 6
_PASSWORD = "correct horse battery"  # noqa: S105 — of people whom the attack makes up


@dataclass(frozen=True)
class Person:
    """`cookie` is what a browser keeps that has logged in before."""

    email: str
    address: str
    cookie: str


@dataclass(frozen=True)
class Flood:
    """Attackers come `a_second`, and hang up at once unless they wait for their answers."""

    a_second: int
    waits: bool
    addresses: int
    throttles: bool

    @property
    def name(self) -> str:
        does = "wait" if self.waits else "hang up"
        limited = "" if self.throttles else ", throttles off"
        where = "one address" if self.addresses == 1 else f"{self.addresses:,} addresses"
        return f"{self.a_second} logins/s that {does}, from {where}{limited}"


FLOODS = [
    Flood(a_second=15, waits=False, addresses=1, throttles=False),
    Flood(a_second=15, waits=False, addresses=1000, throttles=False),
    Flood(a_second=15, waits=False, addresses=1000, throttles=True),
    Flood(a_second=100, waits=True, addresses=1000, throttles=False),
    Flood(a_second=100, waits=True, addresses=1000, throttles=True),
]


def attack(start: Start) -> Iterator[Row]:
    for flood in FLOODS:
        throttles = str(flood.throttles).lower()
        with start(THROTTLES=throttles, FORWARDED_ALLOW_IPS="127.0.0.1") as target:
            people = [_register(target, number) for number in range(_PEOPLE)]
            in_time = uvloop.run(_honest_beside(flood, target, people))
        who = "logins on known devices" if flood.waits else "honest logins"
        percent = 100 * sum(in_time) / len(in_time)
        yield at_least(flood.name, f"{who} within {_IN_TIME_SECONDS} s", percent, _PERCENT, " %")


def _register(target: Target, number: int) -> Person:
    email, address = f"{secrets.token_hex(8)}@example.com", f"192.0.2.{number}"
    with httpx.Client(timeout=30, headers={"X-Forwarded-For": address}) as client:
        body = {"email": email, "password": _PASSWORD}
        client.post(target.url("/api/v1/users/"), json=body).raise_for_status()
        form = {"username": email, "password": _PASSWORD}
        response = client.post(target.url("/api/v1/token"), data=form).raise_for_status()
    cookies = [SimpleCookie(text) for text in response.headers.get_list("set-cookie")]
    device = [f"{name}={cookie[name].value}" for cookie in cookies for name in cookie if "device" in name]
    return Person(email, address, "; ".join(device))


async def _honest_beside(flood: Flood, target: Target, people: list[Person]) -> list[bool]:
    """For each honest login, whether it was answered 200 in time."""

    async def honest(number: int) -> bool:
        person = people[number % len(people)]
        form = {"username": person.email, "password": _PASSWORD}
        cookie = {"Cookie": person.cookie} if flood.waits else {}
        begin = perf_counter()
        answer = await _log_in(target, form, {"X-Forwarded-For": person.address, **cookie})
        return answer.startswith(b"HTTP/1.1 200") and perf_counter() - begin <= _IN_TIME_SECONDS

    async def hostile(number: int) -> bool:
        address = f"10.0.{number % flood.addresses >> 8}.{number % flood.addresses & 255}"
        form = {"username": f"{secrets.token_hex(8)}@example.com", "password": "a wrong password"}
        return bool(await _log_in(target, form, {"X-Forwarded-For": address}, waits=flood.waits))

    attacking = asyncio.create_task(_steadily(flood.a_second, _SECONDS, hostile))
    await asyncio.sleep(_HEAD_START_SECONDS)
    in_time = await _steadily(_HONEST_A_SECOND, _SECONDS - _HEAD_START_SECONDS, honest)
    await attacking
    return in_time


async def _steadily(a_second: int, seconds: float, call: Callable[[int], Awaitable[bool]]) -> list[bool]:
    """Calls at this rate, however long the answers take, and gives all results."""
    begin = perf_counter()
    calls = []
    for number in range(int(a_second * seconds)):
        await asyncio.sleep(begin + number / a_second - perf_counter())
        calls.append(asyncio.ensure_future(call(number)))
    return await asyncio.gather(*calls)


async def _log_in(
    target: Target, form: dict[str, str], headers: dict[str, str], *, waits: bool = True
) -> bytes:
    """The answer; empty where there is none."""
    body = urlencode(form)
    lines = [
        "POST /api/v1/token HTTP/1.1",
        "Host: x",
        "Connection: close",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    answer = b""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        writer.write("\r\n".join([*lines, "", body]).encode())
        if waits:
            answer = await reader.read()
        writer.close()
    return answer
