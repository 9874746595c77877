"""From a shared secret to key pairs and back, while people work, and without one request refused for it."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from jose import jwt
from jose.exceptions import JWTError

from app.cli.running import OPERATOR
from tests.support import LIVE, SECRET_KEY, Api, MakeService, MovableClock, eventually
from tests.support.keys import key_set, kid_of

pytestmark = [
    pytest.mark.process,  # it takes its time
    pytest.mark.usefixtures("keys_are_read_often"),
]
NEW_SECRET_KEY = "what nobody but the service knows, of the tests"
MAX_AGE = timedelta(seconds=600)
PEOPLE = 4


class Balancer:
    """Two replicas; each request comes to one of them by chance."""

    def __init__(self, start: MakeService, clock: MovableClock, url: str) -> None:
        self._start, self._url = start, url
        self.clock = clock
        self.replicas: list[Api] = []

    def roll_out(self, between: Callable[[], object] = lambda: None, **settings: Any) -> None:
        """One after the other gets its new settings."""
        before, self.replicas = self.replicas, [*self.replicas]
        for index in range(2):
            replica = self._start(database_url=self._url, clock=self.clock, **settings)
            assert replica.http.get(LIVE).status_code == 200
            self.replicas[index : index + 1] = [replica]
            if before:
                between()

    def pick(self) -> Api:
        return random.choice(self.replicas)  # noqa: S311 — not a secret

    def pass_time(self, **duration: float) -> None:
        """Until each replica has read the keys again."""
        self.clock.move(**duration)
        eventually(lambda: {each.container.signing_keys.tried_at for each in self.replicas} == {self.clock()})


class Sibling:
    """Verifies offline. `secret` and `by_key_set` say how; the key set is cached for as long as it may be."""

    def __init__(self, balancer: Balancer, secret: str) -> None:
        self.secret: str | None = secret
        self.by_key_set = False
        self.surprises = 0
        self._balancer = balancer
        self._keys: dict[str, dict[str, Any]] = {}
        self._fetched_at: datetime | None = None
        self._lock = threading.Lock()

    def accepts(self, token: str) -> bool:
        kid = kid_of(token)
        key = self.secret if kid is None else self._find(kid)
        if key is None:
            return False
        try:
            algorithm = "HS256" if kid is None else "ES256"
            jwt.decode(token, key, algorithms=[algorithm], options={"verify_exp": False})
        except JWTError:
            return False
        return True

    def _find(self, kid: str) -> dict[str, Any] | None:
        if not self.by_key_set:
            return None
        with self._lock:
            now = self._balancer.clock()
            if self._fetched_at is None or now - self._fetched_at > MAX_AGE:
                self._keys, self._fetched_at = key_set(self._balancer.pick()), now
            if kid not in self._keys:
                self.surprises += 1
                self._keys, self._fetched_at = key_set(self._balancer.pick()), now
            return self._keys.get(kid)


class Traffic:
    """People at work: /me here and at the sibling, and a refresh whenever a token has run out."""

    def __init__(self, balancer: Balancer, sibling: Sibling) -> None:
        self.refused: list[str] = []
        self.revoked: set[str] = set()
        self.done = [0] * PEOPLE
        self.kids: set[str | None] = set()
        self._balancer, self._sibling = balancer, sibling
        self._end = threading.Event()
        self._people = [threading.Thread(target=self._work, args=(number,)) for number in range(PEOPLE)]

    def start(self) -> None:
        for each in self._people:
            each.start()

    def stop(self) -> None:
        self._end.set()
        for each in self._people:
            each.join()

    def goes_on(self) -> None:
        """Everybody has done something since."""
        before = list(self.done)
        eventually(lambda: all(now > then + 3 for now, then in zip(self.done, before, strict=True)))

    def _work(self, number: int) -> None:
        pair = self._balancer.pick().log_in()
        while not self._end.is_set():
            pair = self._ask(pair)
            self.done[number] += 1

    def _ask(self, pair: dict[str, Any]) -> dict[str, Any]:
        token = pair["access_token"]
        self.kids.add(kid_of(token))
        response = self._balancer.pick().me(token)
        if response.status_code == 401 and response.json()["code"] == "token_expired":
            return self._refreshed(pair)
        if response.status_code != 200:
            self.refused.append(f"here: {kid_of(token)}: {response.text}")
        if not self._sibling.accepts(token):
            if kid_of(token) in self.revoked:
                return self._refreshed(pair)
            self.refused.append(f"sibling: {jwt.get_unverified_header(token)}")
        return self._refreshed(pair) if random.random() < 0.2 else pair  # noqa: S311 — not a secret

    def _refreshed(self, pair: dict[str, Any]) -> dict[str, Any]:
        response = self._balancer.pick().refresh(pair["refresh_token"], key=str(uuid4()))
        if response.status_code != 200:
            self.refused.append(f"refresh: {response.text}")
            return self._balancer.pick().log_in()
        fresh: dict[str, Any] = response.json()
        return fresh


@contextmanager
def traffic_on(balancer: Balancer, sibling: Sibling) -> Iterator[Traffic]:
    traffic = Traffic(balancer, sibling)
    traffic.start()
    try:
        traffic.goes_on()
        yield traffic
        traffic.goes_on()
    finally:
        traffic.stop()


@pytest.mark.slow
def test_the_bridge_is_crossed_and_crossed_back_without_a_request_refused(
    start_service: MakeService, fresh_database_url: str
) -> None:
    balancer = Balancer(start_service, MovableClock(), fresh_database_url)
    balancer.roll_out()
    sibling = Sibling(balancer, SECRET_KEY)

    with traffic_on(balancer, sibling) as traffic:
        go = traffic.goes_on
        balancer.roll_out(go, jwt_secret=SECRET_KEY)
        first = balancer.pick().operator.key_admin.prepare(OPERATOR, "ES256")
        balancer.pass_time(seconds=60)
        go()
        sibling.by_key_set = True
        balancer.pass_time(seconds=600)
        go()

        balancer.roll_out(go, jwt_secret=SECRET_KEY, jwt_algorithm="ES256")
        go()
        balancer.pass_time(minutes=15)
        go()
        sibling.secret = None
        secrets: dict[str, Any] = {"secret_key": SECRET_KEY, "secret_key_fallbacks": (NEW_SECRET_KEY,)}
        balancer.roll_out(go, jwt_algorithm="ES256", **secrets)
        secrets = {"secret_key": NEW_SECRET_KEY, "secret_key_fallbacks": (SECRET_KEY,)}
        balancer.roll_out(go, jwt_algorithm="ES256", **secrets)
        balancer.pick().operator.rewrapping.rewrap(OPERATOR)
        go()

        second = balancer.pick().operator.key_admin.rotate(OPERATOR, at_once=False)
        balancer.pass_time(seconds=60)
        go()
        balancer.pass_time(seconds=600)
        go()
        traffic.revoked.add(first.kid)
        balancer.pick().operator.key_admin.revoke(OPERATOR, first.kid, "a drill")
        balancer.pass_time(seconds=60)
        go()

        secret = "a new secret for siblings, of the tests"
        balancer.roll_out(go, jwt_algorithm="ES256", jwt_secret=secret, **secrets)
        sibling.secret = secret
        balancer.roll_out(go, jwt_secret=secret, **secrets)
        balancer.pass_time(minutes=15)
        go()
        sibling.by_key_set = False

    assert traffic.refused == []
    assert traffic.kids == {None, first.kid, second.kid}
    assert sibling.surprises == 0
