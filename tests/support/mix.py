"""Honest clients of several replicas, who keep account of what they were told."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
from jose import jwt

from tests.support.api import HEALTH, PASSWORD, bearer, client

LOST_ANSWERS = 0.01
PAUSE_SECONDS = 0.1
_PATIENCE_SECONDS = 30  # with one attempt; the service answers far sooner, whatever happens to the database
_numbers = count()


class Done(NamedTuple):
    at: float
    what: str
    who: str


class Journal:
    """What was answered when; times are of `time.monotonic`."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self.failures: list[str] = []
        """Answers that no honest client should get."""
        self.attempts: Counter[str] = Counter()
        """Those that were repeated, by what came of them."""

    def times(self, what: str, who: str | None = None) -> list[float]:
        return [each.at for each in list(self.done) if each.what == what and who in (None, each.who)]


class Service:
    """A load balancer of one client: an attempt that fails is repeated at the other replica."""

    def __init__(self, urls: list[str], journal: Journal, who: str) -> None:
        self.journal, self.who = journal, who
        self._replicas = [client(url) for url in urls]
        self._chance = random.Random(who)  # noqa: S311 — the same losses in each run

    def ask(self, what: str, method: str, path: str, *, loss: float = 0, **content: Any) -> httpx.Response:
        """Repeats the request until it is answered, by anything but 503."""
        for attempt in count():
            if attempt:
                time.sleep(PAUSE_SECONDS)
            try:
                answer = self._replicas[0].request(method, path, timeout=_PATIENCE_SECONDS, **content)
            except httpx.TransportError as error:
                self._repeat(type(error).__name__)
                continue
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                self._repeat("503")
            elif answer.is_success and self._chance.random() < loss:
                self._repeat("lost")
            else:
                break
        if answer.is_success:
            self.journal.done.append(Done(time.monotonic(), what, self.who))
        elif answer.is_server_error:
            self.journal.failures.append(f"{what}: {answer.status_code} {answer.text}")
        return answer

    def _repeat(self, why: str) -> None:
        self.journal.attempts[why] += 1
        self._replicas.append(self._replicas.pop(0))

    def register(self) -> str:
        """The email; 409 says that an attempt before was stored."""
        email = f"{self.who}-{next(_numbers)}@example.com"
        registered = self.ask(
            "register", "POST", "/api/v1/users/", json={"email": email, "password": PASSWORD}
        )
        self.expect(registered, 201, 409)
        return email

    def log_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        return self.ask("login", "POST", "/api/v1/token", data={"username": email, "password": password})

    def expect(self, answer: httpx.Response, *statuses: int) -> bool:
        """Whether it was the first of them; any other than these is a failure."""
        if answer.status_code not in statuses and not answer.is_server_error:
            self.journal.failures.append(
                f"{self.who}: {answer.request.url.path} {answer.status_code} {answer.text}"
            )
        return answer.status_code == statuses[0]

    def close(self) -> None:
        for each in self._replicas:
            each.close()


class Person(threading.Thread):
    """Does something again and again, until told to leave."""

    def __init__(self, urls: list[str], journal: Journal, who: str) -> None:
        super().__init__(name=who)
        self.service = Service(urls, journal, who)
        self.leaves = threading.Event()
        self.prepare()

    def run(self) -> None:
        while not self.leaves.wait(PAUSE_SECONDS):
            self.act()

    def prepare(self) -> None:
        """Before anything happens to the servers."""

    def act(self) -> None:
        raise NotImplementedError


class Tab(Person):
    """A session that must never be lost."""

    def prepare(self) -> None:
        self.email = self.service.register()
        self.pair = self.service.log_in(self.email).json()

    def act(self) -> None:
        headers = bearer(self.pair["access_token"])
        self.service.expect(self.service.ask("me", "GET", "/api/v1/me", headers=headers), 200)
        self.refresh()

    def refresh(self) -> bool:
        """One key for all attempts, as the first one may have been done without an answer."""
        refreshed = self.service.ask(
            "refresh", "POST", "/api/v1/refresh", json={"refresh_token": self.pair["refresh_token"]},
            headers={"Idempotency-Key": uuid4().hex}, loss=LOST_ANSWERS,
        )  # fmt: skip
        if is_refreshed := self.service.expect(refreshed, 200):
            self.pair = refreshed.json()
        return is_refreshed

    @property
    def token_id(self) -> str:
        """Which the service's row has to have, if no rotation that was told of is lost."""
        return str(jwt.get_unverified_claims(self.pair["refresh_token"])["jti"])


class Newcomer(Person):
    """Registers, logs in and out."""

    def prepare(self) -> None:
        self.registered: list[str] = []
        self.logged_out: list[str] = []
        """The refresh tokens of those sessions."""

    def act(self) -> None:
        self.registered.append(self.service.register())
        pair = self.service.log_in(self.registered[-1]).json()
        headers = bearer(pair["access_token"])
        # 401 says that an attempt before was stored.
        self.service.expect(self.service.ask("logout", "POST", "/api/v1/logout", headers=headers), 204, 401)
        self.logged_out.append(pair["refresh_token"])


class Changer(Person):
    """Changes the own password; where an attempt was not answered, finds out which one holds."""

    def prepare(self) -> None:
        self.email = self.service.register()
        self.password = PASSWORD

    def act(self) -> None:
        login = self.service.log_in(self.email, self.password)
        if not self.service.expect(login, 200):
            return
        new = f"{PASSWORD} {uuid4().hex}"
        body = {"current_password": self.password, "new_password": new}
        headers = bearer(login.json()["access_token"])
        changed = self.service.ask("password", "PUT", "/api/v1/me/password", headers=headers, json=body)
        if changed.is_success or self.service.log_in(self.email, new).is_success:
            self.password = new  # a repeated change is refused once the first attempt was stored


class Administrator(Person):
    """Gives others roles. `promote` makes the owner of an email an administrator."""

    def __init__(self, urls: list[str], journal: Journal, who: str, promote: Callable[[str], object]) -> None:
        self._promote = promote
        super().__init__(urls, journal, who)

    def prepare(self) -> None:
        email = self.service.register()
        self.subject = self.service.register()
        me, other = self._id_of(email), self._id_of(self.subject)
        self._promote(email)
        self._path, self._roles = f"/api/v1/admin/users/{other}/role", ["guest", "user"]
        self._token = self.service.log_in(email).json()["access_token"]
        assert me != other

    def _id_of(self, email: str) -> int:
        headers = bearer(self.service.log_in(email).json()["access_token"])
        return int(self.service.ask("me", "GET", "/api/v1/me", headers=headers).json()["id"])

    def act(self) -> None:
        self._roles.reverse()
        body, headers = {"role": self.role}, bearer(self._token)
        self.service.expect(self.service.ask("role", "PATCH", self._path, json=body, headers=headers), 200)

    @property
    def role(self) -> str:
        return self._roles[0]


class Watcher(threading.Thread):
    """Asks a replica for its health, as a load balancer does."""

    def __init__(self, url: str) -> None:
        super().__init__(name=url)
        self.seen: list[tuple[float, bool]] = []
        self.leaves = threading.Event()
        self._http = client(url)

    def run(self) -> None:
        while not self.leaves.wait(PAUSE_SECONDS):
            try:
                healthy = self._http.get(HEALTH, timeout=_PATIENCE_SECONDS).is_success
            except httpx.TransportError:
                healthy = False
            self.seen.append((time.monotonic(), healthy))
        self._http.close()

    def first(self, *, healthy: bool, after: float) -> float | None:
        """When it was so for the first time from then on."""
        return next((at for at, was in list(self.seen) if at >= after and was is healthy), None)


@contextmanager
def at_work(people: list[Person], watchers: list[Watcher]) -> Iterator[None]:
    everybody: list[Person | Watcher] = [*people, *watchers]
    with ExitStack() as stack:
        for each in everybody:
            each.start()
            stack.callback(each.join)
        for each in everybody:
            stack.callback(each.leaves.set)
        yield
