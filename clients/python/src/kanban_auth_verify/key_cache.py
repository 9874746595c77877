"""The service's keys, kept in memory and fetched again when they grow old or a `kid` is not among them."""

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final

import httpx

from kanban_auth_verify.clock import Clock
from kanban_auth_verify.errors import Unavailable
from kanban_auth_verify.keys import VerificationKey, read_jwks

COOL_DOWN_SECONDS: Final = 30
"""Between two fetches that unknown kids cause: anybody can make up a kid."""

MAX_STALE_SECONDS: Final = 24 * 3600
"""How long keys are used that the service has not confirmed, while it does not answer."""

_DEFAULT_MAX_AGE: Final = 600
_MAX_AGE_LIMIT: Final = 3600
_FIRST_RETRY_SECONDS: Final = 1
_LAST_RETRY_SECONDS: Final = 30
_MAX_JWKS_BYTES: Final = 256 * 1024
log = logging.getLogger(__name__)


class KeyCache:
    """Reading takes no lock. One fetch runs at a time, on a thread; who needs it waits for its Future."""

    def __init__(self, url: str, client: httpx.Client, clock: Clock) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, VerificationKey] | None = None
        self._etag = ""
        self._max_age = _DEFAULT_MAX_AGE
        self._fetched_at = self._attempted_at = self._asked_for_unknown_at = -float("inf")
        self._failures = 0
        self._fetch: Future[None] | None = None

    def find(self, kid: str) -> VerificationKey | None:
        """Raises Unavailable if there are no keys, or none that may still be believed."""
        if self._keys is None or self._age() > self._max_age + MAX_STALE_SECONDS:
            raise Unavailable("the keys could not be fetched")
        return self._keys.get(kid)

    def prepare(self, kid: str | None) -> "Future[None] | None":
        """Fetch what has to be fetched; give what to wait for before `find` is asked, if anything.

        Without a `kid`, so that there are keys at all.
        """
        age = self._age()
        if self._keys is None:
            return self._fetch or self._begin_fetch(self._is_retry_due)
        if age > self._max_age:
            fetch = self._fetch or self._begin_fetch(self._is_retry_due)
            # Some keys are old because nobody has asked for long; those are not used once more.
            if age > 2 * self._max_age and self._failures == 0:
                return fetch
        if kid is None or kid in self._keys:
            return None
        return self._fetch or self._begin_fetch(self._may_ask_for_unknown)

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched_at

    def _is_retry_due(self) -> bool:
        if self._failures == 0:
            return True
        wait: float = min(_FIRST_RETRY_SECONDS * 2.0 ** (self._failures - 1), _LAST_RETRY_SECONDS)
        return self._clock.monotonic() - self._attempted_at >= wait

    def _may_ask_for_unknown(self) -> bool:
        now = self._clock.monotonic()
        if now - self._asked_for_unknown_at < COOL_DOWN_SECONDS:
            return False
        self._asked_for_unknown_at = now
        return True

    def _begin_fetch(self, may_begin: Callable[[], bool]) -> "Future[None] | None":
        with self._lock:
            if self._fetch is None and may_begin():
                self._fetch = Future()
                threading.Thread(
                    target=self._run, args=(self._fetch,), name="kanban-auth-keys", daemon=True
                ).start()
            return self._fetch

    def _run(self, fetch: "Future[None]") -> None:
        self._attempted_at = self._clock.monotonic()
        try:
            self._load()
            self._failures = 0
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, RuntimeError) as error:
            self._failures = min(self._failures + 1, 10)
            log.warning("The keys of the auth service could not be fetched: %s", error)
        finally:
            self._fetch = None
            fetch.set_result(None)

    def _load(self) -> None:
        headers = {"If-None-Match": self._etag} if self._etag else {}
        with self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code != httpx.codes.NOT_MODIFIED:
                response.raise_for_status()
                if response.status_code != httpx.codes.OK:
                    raise ValueError(f"status {response.status_code}")
                self._keys = read_jwks(json.loads(_read_limited(response)))
                self._etag = response.headers.get("etag", "")
            self._max_age = _max_age_of(response)
        self._fetched_at = self._attempted_at


def _read_limited(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _MAX_JWKS_BYTES:
            raise ValueError("the JWKS is too large")
    return bytes(body)


def _max_age_of(response: httpx.Response) -> int:
    """An hour at most: a revoked key has to go."""
    found = re.search(r"max-age=(\d{1,9})", response.headers.get("cache-control", ""))
    return min(int(found[1]), _MAX_AGE_LIMIT) if found else _DEFAULT_MAX_AGE
