"""Sends what is due in the outbox, in the background of a worker."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

import structlog

from app.errors import Unavailable
from app.greenlets import run_in_greenlet
from app.services.delivery.letters import SEND_SECONDS, Composer, NotDelivered, Transport
from app.services.delivery.mail_queue import LEASE, Claimed, MailQueue, QueueState
from app.telemetry.metrics import DeliveryMetrics

CONNECTIONS: Final = 4
POLL_SECONDS: Final = 5
FINISH_SECONDS: Final = 1
_BATCH: Final = 40
_RECORD_AGAIN_SECONDS: Final = 1
# What begins later might still be under way when the lease is over.
_BEGIN_SECONDS: Final = LEASE.total_seconds() - SEND_SECONDS - 10

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class MailSender:
    """At least once: a message counts as sent after a server has taken it, and not before."""

    def __init__(
        self, queue: MailQueue, composer: Composer, transport: Transport, metrics: DeliveryMetrics
    ) -> None:
        self._queue = queue
        self._composer = composer
        self._transport = transport
        self._metrics = metrics
        self._taken: list[UUID] = []  # by the mail server, and not on record yet
        self._due, self._stop = asyncio.Event(), asyncio.Event()
        self._database = asyncio.Lock()  # of the few connections of the background, it takes one

    def wake(self) -> None:
        """Look now; otherwise that is every `POLL_SECONDS`."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled. What is under way then has `FINISH_SECONDS`, and the rest is released."""
        self._stop.clear()
        work = asyncio.create_task(self._work())
        try:
            await asyncio.shield(work)
        finally:
            self._stop.set()
            self._due.set()
            await asyncio.wait((work,), timeout=FINISH_SECONDS)
            work.cancel()
            await asyncio.wait((work,))
            await self._transport.close()

    async def _work(self) -> None:
        while not self._stop.is_set():
            self._due.clear()
            goes_on = await self._round()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await (self._due if goes_on else self._stop).wait()
            except TimeoutError:
                await self._transport.close()

    async def _round(self) -> bool:
        """Until nothing is due. False if the mail server or the database has to be left in peace for now."""
        try:
            self._observe(await self._ask(self._queue.state))
            while not self._stop.is_set() and (batch := await self._ask(self._queue.claim, _BATCH)):
                if not await self._send(batch):
                    return False
        except Unavailable as error:
            log.warning("mail.waiting", reason=getattr(error, "reason", error.code))
            return False
        except Exception:
            log.exception("mail.broken")
            return False
        return True

    async def _send(self, batch: list[Claimed]) -> bool:
        """False once one has failed for a reason that would fail all others."""
        waiting, settled = deque(batch), set[UUID]()
        goes_on, end = True, asyncio.get_running_loop().time() + _BEGIN_SECONDS

        async def take_turns() -> None:
            nonlocal goes_on
            while waiting and goes_on and not self._stop.is_set():
                message = waiting.popleft()
                reachable = await self._deliver(message)
                settled.add(message.draft.id)
                goes_on = goes_on and reachable and asyncio.get_running_loop().time() < end

        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(min(CONNECTIONS, len(batch))):
                    lanes.create_task(take_turns())
        finally:
            if left := [each.draft.id for each in batch if each.draft.id not in settled]:
                with suppress(Unavailable):  # their lease ends by itself
                    await self._ask(self._queue.release, left)
        return goes_on

    async def _deliver(self, message: Claimed) -> bool:
        """False if other messages would fail too."""
        told = {"message_id": str(message.draft.id), "kind": message.kind, "user_id": message.user_id}
        try:
            await self._transport.send(self._composer.compose(message.draft))
        except NotDelivered as error:
            await self._not_sent(message, error, told)
            return not error.concerns_all
        except Exception as error:
            log.exception("mail.broken", **told)
            await self._not_sent(message, NotDelivered(type(error).__name__), told)
            return True
        self._taken.append(message.draft.id)
        await self._record(self._record_taken)
        self._metrics.mails.labels("sent").inc()
        log.info("mail.sent", attempts=message.attempts, **told)
        return True

    def _record_taken(self) -> None:
        """All at once that were taken while one of them waited for the database."""
        if taken := self._taken.copy():
            self._queue.sent(taken)
            del self._taken[: len(taken)]  # others have come meanwhile

    async def _not_sent(self, message: Claimed, error: NotDelivered, told: dict[str, Any]) -> None:
        again = await self._record(self._queue.not_sent, message, error)
        outcome, say = ("postponed", log.warning) if again else ("failed", log.error)
        self._metrics.mails.labels(outcome).inc()
        say(f"mail.{outcome}", reason=error.reason, attempts=message.attempts, **told)

    async def _record(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Also when the database is back only later: a message that is not on record is sent once more."""
        while True:
            try:
                return await self._ask(write, *args, **kwargs)
            except Unavailable:
                await asyncio.sleep(_RECORD_AGAIN_SECONDS)

    async def _ask(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._database:
            return await run_in_greenlet(work, *args, **kwargs)

    def _observe(self, state: QueueState) -> None:
        self._metrics.mail_queue.set(state.length)
        self._metrics.mail_age.set(state.oldest_age)
