"""`Verifier` and `AsyncVerifier`: the same, except for how they wait."""

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Literal, Self, get_args

import httpx

from kanban_auth_verify.claims import AccessClaims, Policy, read_claims
from kanban_auth_verify.clock import Clock
from kanban_auth_verify.errors import InvalidToken, Unavailable
from kanban_auth_verify.feed import RevocationFeed, Timing
from kanban_auth_verify.jws import read_header
from kanban_auth_verify.key_cache import KeyCache
from kanban_auth_verify.keys import VerificationKey, read_secret

MAX_SILENCE_SECONDS: Final = 30
WAIT_SECONDS: Final = 5
"""The longest that a token waits for the service; hardly one does."""

WhenSilent = Literal["fail_open", "fail_closed"]


class _Connections:
    """What one process holds open."""

    def __init__(self, of: "_Verifying") -> None:
        self._client = of.http_client()
        self.keys = KeyCache(f"{of.url}/.well-known/jwks.json", self._client, of.clock)
        self.feed: RevocationFeed | None = None
        if of.service_token is not None:
            url = f"{of.url}/api/v1/revocations"
            self.feed = RevocationFeed(url, of.service_token, self._client, of.clock, of.timing)

    def close(self) -> None:
        if self.feed is not None:
            self.feed.stop()
        self._client.close()


class _Verifying:
    """Thread-safe. Connects at `start` or with the first token, and anew in a process that was forked."""

    def __init__(
        self,
        url: str,
        *,
        issuer: str = "kanban-auth",
        audience: str | None = None,
        shared_secret: str | None = None,
        service_token: str | None = None,
        when_silent: WhenSilent = "fail_open",
        max_silence: float = MAX_SILENCE_SECONDS,
        http_client: Callable[[], httpx.Client] = httpx.Client,
        clock: Clock | None = None,
        timing: Timing | None = None,
    ) -> None:
        """Raises ValueError if the shared secret is too short, or `when_silent` is nothing that we know.

        `url` is where the service is reached; `issuer` and `audience` are its JWT_ISSUER and JWT_AUDIENCE.
        `shared_secret` is its JWT_SECRET, while it signs with that or has lately: HS256 tokens are accepted
        beside those of the JWKS. With `service_token` (`kas_...`, scope `revocations`) sign-outs are felt
        within two seconds; `when_silent` says what to do with good tokens when nothing was heard of the
        service for `max_silence` seconds. `http_client` makes a client of your own, with a CA or a proxy.
        """
        if when_silent not in get_args(WhenSilent):
            raise ValueError(f"when_silent is {' or '.join(get_args(WhenSilent))}, and not {when_silent!r}")
        self.url = url.rstrip("/")
        self.service_token = service_token
        self.http_client = http_client
        self.clock = clock or Clock()
        self.timing = timing or Timing()
        self._policy = Policy(issuer, audience)
        self._shared_secret = None if shared_secret is None else read_secret(shared_secret)
        self._fails_closed = when_silent == "fail_closed"
        self._max_silence = max_silence
        self._forget_connections()
        _verifiers.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _forget_connections(self) -> None:
        self._lock = threading.Lock()
        self._connections: _Connections | None = None

    def _connect(self) -> _Connections:
        with self._lock:
            if self._connections is None:
                self._connections = _Connections(self)
            return self._connections

    def _close(self) -> None:
        with self._lock:
            if self._connections is not None:
                self._connections.close()
            self._connections = None

    def _starting(self) -> list["Future[None]"]:
        connections = self._connect()
        return _pending(connections, connections.keys.prepare(None))

    def _preparing(self, token: str) -> list["Future[None]"]:
        """What to wait for before the token can be judged: nothing, nearly always. Raises InvalidToken."""
        connections = self._connections or self._connect()
        header = read_header(token)
        keys = None if header.kid is None else connections.keys.prepare(header.kid)
        return _pending(connections, keys)

    def _judge(self, token: str) -> AccessClaims:
        connections = self._connections or self._connect()
        now = self.clock.now()
        claims = read_claims(token, self._key_for(token, connections.keys), self._policy, now)
        if (feed := connections.feed) is not None:
            if self._fails_closed and (not feed.is_caught_up or feed.silent_for() > self._max_silence):
                raise Unavailable("the feed of revocations is silent")
            if (refusal := feed.revocations.refusal_of(claims)) is not None:
                raise refusal
        return claims

    def _key_for(self, token: str, keys: KeyCache) -> VerificationKey:
        algorithm, kid = read_header(token)
        key = self._shared_secret if kid is None else keys.find(kid)
        if key is None or key.algorithm != algorithm:
            raise InvalidToken("no key for it")
        return key


def _pending(connections: _Connections, keys: "Future[None] | None") -> list["Future[None]"]:
    feed = connections.feed
    contact = None if feed is None or feed.first_contact.done() else feed.first_contact
    return [future for future in (keys, contact) if future is not None]


class Verifier(_Verifying):
    """For code with threads."""

    def start(self) -> None:
        """Connect now, and not with the first token."""
        concurrent.futures.wait(self._starting(), WAIT_SECONDS)

    def verify(self, token: str) -> AccessClaims:
        """Raises InvalidToken, TokenExpired, TokenRevoked, Unavailable."""
        if pending := self._preparing(token):
            concurrent.futures.wait(pending, WAIT_SECONDS)
        return self._judge(token)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncVerifier(_Verifying):
    """For asyncio: what has to be waited for is waited for without blocking the event loop."""

    async def start(self) -> None:
        """Connect now, and not with the first token."""
        await _wait(self._starting())

    async def verify(self, token: str) -> AccessClaims:
        """Raises InvalidToken, TokenExpired, TokenRevoked, Unavailable."""
        if pending := self._preparing(token):
            await _wait(pending)
        return self._judge(token)

    async def close(self) -> None:
        self._close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _wait(pending: list["Future[None]"]) -> None:
    if pending:
        await asyncio.wait([asyncio.wrap_future(future) for future in pending], timeout=WAIT_SECONDS)


_verifiers: Final = weakref.WeakSet[_Verifying]()


def _forget_all() -> None:
    """Threads, sockets and held locks do not live on in a forked process."""
    for verifier in list(_verifiers):
        verifier._forget_connections()  # noqa: SLF001 — of this module


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget_all)
