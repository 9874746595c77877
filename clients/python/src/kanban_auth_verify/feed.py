"""Follows the service's revocations: as a stream while that works, by asking every two seconds otherwise."""

import contextlib
import json
import logging
import random
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import httpx

from kanban_auth_verify.clock import Clock
from kanban_auth_verify.event_stream import Event, read_events
from kanban_auth_verify.revocation_list import RevocationList, read_revocation

_TIMEOUT_SECONDS: Final = 3
_CURSOR_REFUSED: Final = (httpx.codes.BAD_REQUEST, httpx.codes.GONE)
log = logging.getLogger(__name__)
_MALFORMED: Final = (KeyError, ValueError, TypeError, AttributeError, RecursionError)
_FAILURES: Final = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, RuntimeError, OSError, *_MALFORMED)


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. The service sends a heartbeat every 15 s; waits are made a little random."""

    heartbeat_timeout: float = 20
    poll: float = 2
    first_retry: float = 0.25
    last_retry: float = 10
    last_stream_retry: float = 600


class RevocationFeed:
    """Runs on a daemon thread of its own."""

    def __init__(
        self, url: str, service_token: str, client: httpx.Client, clock: Clock, timing: Timing
    ) -> None:
        self.revocations = RevocationList()
        self.first_contact: Future[None] = Future()
        self._url = url
        self._authorization = f"Bearer {service_token}"
        self._client = client
        self._clock = clock
        self._timing = timing
        self._cursor: str | None = None
        self._last_heard = clock.monotonic()
        self._is_caught_up = False
        self._stopped = threading.Event()
        self._stream: httpx.Response | None = None
        threading.Thread(target=self._run, name="kanban-auth-revocations", daemon=True).start()

    @property
    def is_caught_up(self) -> bool:
        """Whether everything was read at least once."""
        return self._is_caught_up

    def silent_for(self) -> float:
        """Seconds since the service last said that there is nothing else."""
        return self._clock.monotonic() - self._last_heard

    def stop(self) -> None:
        self._stopped.set()
        if (stream := self._stream) is not None:
            _shut_down(stream)

    def _run(self) -> None:
        failures = stream_failures = 0
        stream_due = -float("inf")
        while not self._stopped.is_set():
            failures = 0 if self._catch_up() else failures + 1
            self._settle_first_contact()
            if failures:
                self._pause(min(self._timing.first_retry * 2**failures, self._timing.last_retry))
            elif self._clock.monotonic() < stream_due:
                self._pause(self._timing.poll)
            elif self._follow():
                stream_failures = 0
                self._pause(self._timing.first_retry)
            else:
                stream_failures = min(stream_failures + 1, 10)
                wait = min(self._timing.poll * 2**stream_failures, self._timing.last_stream_retry)
                stream_due = self._clock.monotonic() + wait

    def _pause(self, seconds: float) -> None:
        """Up to so many seconds: siblings that lost their stream together do not come back together."""
        self._stopped.wait(random.uniform(seconds / 2, seconds))  # noqa: S311 — nothing secret about it

    def _settle_first_contact(self) -> None:
        if not self.first_contact.done():
            self.first_contact.set_result(None)

    def _catch_up(self) -> bool:
        """Read page by page what is there already; tells whether that worked."""
        try:
            while self._read_page():
                pass
        except _FAILURES as error:
            if not self._stopped.is_set():
                log.warning("The revocations of the auth service could not be read: %s", error)
            return False
        self._is_caught_up = True
        return True

    def _read_page(self) -> bool:
        """Tells whether there is another one."""
        response = self._client.get(self._url, params=self._position(), headers=self._headers())
        if response.status_code in _CURSOR_REFUSED:
            self._cursor = None  # what is known stays known, and the next try reads from the beginning
        _expect_ok(response)
        page = response.json()
        for item in page["revocations"]:
            self._take(item)
        self._cursor = str(page["cursor"])
        self._hear()
        return bool(page["has_more"])

    def _follow(self) -> bool:
        """Read the stream until it ends; tells whether it was of use."""
        began = self._clock.monotonic()
        headers = {**self._headers("text/event-stream"), "Last-Event-ID": self._cursor or ""}
        timeout = httpx.Timeout(_TIMEOUT_SECONDS, read=self._timing.heartbeat_timeout)
        try:
            with self._client.stream(
                "GET", self._url, params=self._position(), headers=headers, timeout=timeout
            ) as response:
                _expect_ok(response)
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise ValueError("not a stream")
                self._stream = response
                for event in read_events(response.iter_bytes()):
                    self._take_event(event)
                    if self._stopped.is_set():
                        break
        except _FAILURES as error:
            if not self._stopped.is_set():
                log.info("The stream of revocations ended: %s", error)
        finally:
            self._stream = None
        return self._last_heard - began >= self._timing.poll

    def _take_event(self, event: Event) -> None:
        if event.kind == "revocation":
            self._take(json.loads(event.data))
            self._cursor = event.id or self._cursor
        self._hear()

    def _take(self, item: Any) -> None:
        """One that cannot be read must not keep us from the next."""
        try:
            self.revocations.add(read_revocation(item))
        except _MALFORMED:
            log.exception("A revocation of the auth service could not be understood")

    def _hear(self) -> None:
        self._last_heard = self._clock.monotonic()
        self.revocations.forget_expired(self._clock.now())

    def _position(self) -> dict[str, str]:
        return {} if self._cursor is None else {"after": self._cursor}

    def _headers(self, accept: str = "application/json") -> dict[str, str]:
        return {"Authorization": self._authorization, "Accept": accept, "Accept-Encoding": "identity"}


def _expect_ok(response: httpx.Response) -> None:
    if response.status_code != httpx.codes.OK:
        raise ValueError(f"status {response.status_code}")


def _shut_down(stream: httpx.Response) -> None:
    """Wakes the thread that reads it."""
    network_stream = stream.extensions.get("network_stream")
    connection = network_stream and network_stream.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
