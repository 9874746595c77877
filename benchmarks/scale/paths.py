"""The requests that are measured at each size, of users and sessions that chance chooses."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from random import Random
from typing import Any

from sqlalchemy import select

from app.config import Settings
from app.container import Container
from app.models import LoginSession
from app.security.tokens import RefreshClaims
from app.services.sessions.tokens import Holder, TokenPair, unix_seconds
from benchmarks import client
from benchmarks.client import Request
from benchmarks.scale.fill import ADMIN, PASSWORD, email_of, session_of

CONNECTIONS = 8
SAMPLE = 2000
LIMIT = 10
_ADMIN = Holder("admin", email_of(ADMIN), email_verified=False)
_USER = Holder("user", "", email_verified=False)
_COLUMNS = (LoginSession.id, LoginSession.user_id, LoginSession.token_id)
_TIMES = (LoginSession.created_at, LoginSession.rotated_at, LoginSession.expires_at)

Prepare = Callable[[], list[Request]]


@dataclass
class Population:
    """The users of one database, whose tokens it can issue as the service does."""

    users: int
    settings: Settings
    random: Random

    def __post_init__(self) -> None:
        self.container = Container(self.settings)

    def close(self) -> None:
        self.container.close()

    def pairs(self) -> list[TokenPair]:
        """Of sessions as they are now."""
        numbers = {self._number() for _ in range(SAMPLE)}
        ids = [session_of(number) for number in numbers]
        rows = self.container.resources.requests.execute(
            select(*_COLUMNS, *_TIMES).where(
                LoginSession.id.in_(ids), LoginSession.expires_at > datetime.now(UTC)
            )
        )
        return [self._issue(row, _USER) for row in rows]

    def admin_token(self) -> str:
        query = select(*_COLUMNS, *_TIMES).where(LoginSession.id == session_of(ADMIN))
        (row,) = self.container.resources.requests.execute(query)
        return self._issue(row, _ADMIN).access_token

    def _issue(self, row: Any, holder: Holder) -> TokenPair:
        began = unix_seconds(row.rotated_at or row.created_at)
        claims = RefreshClaims(row.user_id, row.id, row.token_id, began, unix_seconds(row.expires_at))
        return self.container.tokens.issue(claims, holder)

    def _number(self) -> int:
        """Of a user who is active, and not the administrator."""
        number = self.random.randint(2, self.users)
        return number if number % 500 else number - 1

    def paths(self) -> dict[str, Prepare]:
        # About as many users begin with it, whatever the size.
        beginning = f"{self.random.randrange(16**8):08x}"[: max(1, round(math.log(self.users / 50, 16)))]
        users, events = f"/api/v1/admin/users?limit={LIMIT}", f"/api/v1/admin/audit?limit={LIMIT}"
        long_ago = (datetime.now(UTC) - timedelta(days=300)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "me": lambda: self._each([client.get("/api/v1/me", pair.access_token) for pair in self.pairs()]),
            "refresh": self._rotating,
            "login": lambda: self._each([self._log_in(PASSWORD) for _ in range(SAMPLE)]),
            "login, a third wrong": lambda: self._each(
                [self._log_in(PASSWORD if n % 3 else "wrong horse battery") for n in range(SAMPLE)]
            ),
            "users, first page": self._as_admin(lambda: users),
            "users, deep page": self._as_admin(
                lambda: f"{users}&after={self.random.randrange(self.users // 2)}"
            ),
            "users, by beginning": self._as_admin(lambda: f"{users}&q={beginning}"),
            "users, disabled": self._as_admin(lambda: f"{users}&is_active=false"),
            "sessions of a user": self._as_admin(lambda: f"/api/v1/admin/users/{self._number()}/sessions"),
            "audit, first page": self._as_admin(lambda: events),
            "audit, deep page": self._as_admin(lambda: f"{events}&before={self.random.randrange(500, 1000)}"),
            "audit, of a user": self._as_admin(lambda: f"{events}&user_id={self._number()}"),
            "audit, of a kind": self._as_admin(lambda: f"{events}&event=login.failed"),
            "audit, long ago": self._as_admin(lambda: f"{events}&until={long_ago}"),
        }

    def _log_in(self, password: str) -> Request:
        return client.log_in(email_of(self._number()), password.replace(" ", "+"))

    def _as_admin(self, path: Callable[[], str]) -> Prepare:
        def prepare() -> list[Request]:
            token = self.admin_token()
            return self._each([client.get(path(), token) for _ in range(200)])

        return prepare

    def _each(self, requests: Sequence[Request]) -> list[Request]:
        """Each connection sends the next one."""
        turn = cycle(requests)

        def make(answer: bytes) -> bytes:
            return next(turn)(answer)

        return [make] * CONNECTIONS

    def _rotating(self) -> list[Request]:
        """Each session again when all others have had their turn."""
        waiting = deque(client.refresh(pair.refresh_token) for pair in self.pairs())

        def connection() -> Request:
            last: list[Request] = []

            def make(answer: bytes) -> bytes:
                if last:
                    waiting.append(_with_answer(last.pop(), answer))
                last.append(waiting.popleft())
                return last[0](b"")

            return make

        return [connection() for _ in range(CONNECTIONS)]


def _with_answer(request: Request, answer: bytes) -> Request:
    return lambda _: request(answer)
