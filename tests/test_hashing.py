"""Hashing is fenced: in number, in waiting, and away from everything else."""

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from app.errors import HashingQueueFull
from app.metrics import Metrics
from app.services.passwords import QUEUE_PER_SLOT, HashingFence
from tests.support import (
    PASSWORD,
    PATIENCE_SECONDS,
    Api,
    MakeService,
    at_once,
    error_of,
    eventually,
    new_email,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(session_end_reasons=(), version="test")


@pytest.fixture
def fence(metrics: Metrics) -> Iterator[HashingFence]:
    fence = HashingFence(workers=1, metrics=metrics)
    yield fence
    fence.close()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def test_the_cores_for_hashing_are_shared_out_among_the_workers(metrics: Metrics) -> None:
    slots = [HashingFence(workers=workers, metrics=metrics).slots for workers in (1, cores(), 1000)]

    assert slots == [cores(), 1, 1]


def test_no_more_than_one_hash_a_core_at_a_time(fence: HashingFence) -> None:
    full = threading.Barrier(fence.slots + 1)
    running = 0
    most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait()
        with lock:
            running -= 1

    async def flood() -> None:
        rounds = 5
        tasks = [asyncio.ensure_future(fence.run(work)) for _ in range(fence.slots * rounds)]
        for _ in range(rounds):
            await asyncio.to_thread(full.wait)
        await asyncio.gather(*tasks)

    asyncio.run(flood())

    assert most == fence.slots


def test_past_the_queue_hashing_is_refused_at_once_and_later_taken_again(
    fence: HashingFence, metrics: Metrics
) -> None:
    go = threading.Event()

    async def flood() -> None:
        tasks = [asyncio.ensure_future(fence.run(go.wait)) for _ in range(fence.slots * (1 + QUEUE_PER_SLOT))]
        await asyncio.sleep(0)
        assert metrics.registry.get_sample_value("app_password_hash_queue") == fence.slots * QUEUE_PER_SLOT
        try:
            with pytest.raises(HashingQueueFull):
                await asyncio.wait_for(fence.run(go.wait), PATIENCE_SECONDS)
        finally:
            go.set()
        await asyncio.gather(*tasks)
        assert await fence.run(go.wait)

    asyncio.run(flood())

    assert metrics.registry.get_sample_value("app_password_hash_queue") == 0


def test_hashing_knows_its_request(fence: HashingFence) -> None:
    request_id = contextvars.ContextVar("request_id", default="none")

    async def ask() -> str:
        request_id.set("abc")
        return await fence.run(request_id.get)

    assert asyncio.run(ask()) == "abc"


@pytest.mark.skipif(sys.platform != "linux", reason="priorities belong to processes elsewhere")
def test_hashing_yields_to_everything_else(fence: HashingFence) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert asyncio.run(fence.run(niceness)) > niceness()


def test_a_full_hashing_queue_is_503_and_leaves_other_requests_alone(
    start_service: MakeService, api: Api, busy_hashing: threading.Event
) -> None:
    busy = start_service()
    fence = busy.services.fence
    email, access_token = api.new_user(), api.log_in()["access_token"]
    most = fence.slots * (1 + QUEUE_PER_SLOT)

    def call(index: int) -> tuple[int, str]:
        if index:
            response = busy.token(email)
            return (200, "") if response.status_code == 200 else error_of(response)
        eventually(lambda: busy.metric("app_password_hash_rejections_total") == 29)
        beside = busy.me(access_token).status_code
        busy_hashing.set()
        return beside, "me"

    busy_hashing.clear()
    results = at_once(most + 30, call)

    assert results[0] == (200, "me")
    assert results.count((503, "unavailable")) == 29
    assert results[1:].count((200, "")) == most
    assert busy.token(email).status_code == 200


def test_an_invalid_request_does_not_wait_for_a_hash(start_service: MakeService) -> None:
    busy = start_service(bcrypt_rounds=4)
    fence = busy.services.fence
    fence._threads.admitted = fence._limit

    full = busy.http.post("/api/v1/users/", json={"email": new_email(), "password": PASSWORD})
    short = busy.register(password="short")
    invalid = busy.http.post("/api/v1/users/", json={"email": "nonsense", "password": PASSWORD})

    assert error_of(full) == (503, "unavailable")
    assert int(full.headers["retry-after"]) > 0
    assert error_of(short) == (400, "validation_error")
    assert error_of(invalid) == (400, "validation_error")
