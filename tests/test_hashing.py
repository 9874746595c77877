"""Hashing is bounded: in number, in waiting, and away from everything else."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import HashingQueueFull
from app.greenlets import run_in_greenlet
from app.security.passwords import PasswordHasher
from app.services.protection.cores import usable_cores
from app.services.protection.hashing import HashingPool
from app.services.protection.hashing_slots import QUEUE_PER_SLOT
from app.services.protection.turns import Lane, Turn
from app.telemetry.metrics import Metrics
from tests.support import (
    PASSWORD,
    PATIENCE_SECONDS,
    Api,
    MakeService,
    at_once,
    error_of,
    eventually,
)
from tests.support.hashing import full_hashing, in_hashing

Work = Callable[[], object]
TURN = Turn(Lane.LOGIN, "192.0.2.1")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(revocation_reasons=(), version="test")


@pytest.fixture
def hashing(metrics: Metrics) -> Iterator[HashingPool]:
    pool = HashingPool(PasswordHasher(4), metrics.hashing, workers=1)
    yield pool
    pool.close()


def hash_with(hashing: HashingPool, work: Work, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes each hash do this work. Gives a coroutine function that hashes in a greenlet."""
    monkeypatch.setattr(PasswordHasher, "hash", lambda *_: work())
    return lambda: run_in_greenlet(hashing.hash, PASSWORD, TURN)


def places_of(api: Api) -> int:
    """With those in the queue."""
    return api.container.resources.hashing.slots.size * (1 + QUEUE_PER_SLOT)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"a/b": "100000 100000"}, 1),
        ({"a": "50000 100000", "a/b": "max 100000"}, 1),
        ({"a": "max 100000", "": "100000 100000"}, 1),
        ({"a/b": "max 100000"}, None),
        ({"a/b": "90000000 100000"}, None),
        ({"a/b": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_quota_of_a_container_counts_for_the_cores(
    tmp_path: Path, quotas: dict[str, str], cores: int | None
) -> None:
    for group, quota in quotas.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(f"{quota}\n")
    (tmp_path / "own").write_text("0::/a/b\n")

    assert usable_cores(tmp_path, tmp_path / "own") == (cores or usable_cores(tmp_path / "nowhere", tmp_path))


def test_the_cores_for_hashing_are_shared_out_among_the_workers(metrics: Metrics) -> None:
    hasher = PasswordHasher(4)
    sizes = [HashingPool(hasher, metrics.hashing, workers=each).slots.size for each in (1, cores(), 1000)]

    assert sizes == [cores(), 1, 1]


def test_no_more_than_one_hash_a_core_at_a_time(
    hashing: HashingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Barrier(hashing.slots.size + 1)
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

    hash_once = hash_with(hashing, work, monkeypatch)

    async def flood() -> None:
        rounds = 5
        tasks = [asyncio.ensure_future(hash_once()) for _ in range(hashing.slots.size * rounds)]
        for _ in range(rounds):
            await asyncio.to_thread(full.wait)
        await asyncio.gather(*tasks)

    asyncio.run(flood())

    assert most == hashing.slots.size


def test_past_the_queue_hashing_is_refused_at_once_and_later_taken_again(
    hashing: HashingPool, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    hash_once = hash_with(hashing, go.wait, monkeypatch)

    async def flood() -> None:
        most = hashing.slots.size * (1 + QUEUE_PER_SLOT)
        tasks = [asyncio.ensure_future(hash_once()) for _ in range(most)]
        await asyncio.sleep(0)
        queued = metrics.registry.get_sample_value("app_password_hash_queue")
        assert queued == hashing.slots.size * QUEUE_PER_SLOT
        try:
            with pytest.raises(HashingQueueFull):
                await asyncio.wait_for(hash_once(), PATIENCE_SECONDS)
        finally:
            go.set()
        await asyncio.gather(*tasks)
        assert await hash_once()

    asyncio.run(flood())

    assert metrics.registry.get_sample_value("app_password_hash_queue") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="priorities belong to processes elsewhere")
def test_hashing_yields_to_everything_else(hashing: HashingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    hash_once = hash_with(hashing, niceness, monkeypatch)

    async def hash_in_a_task() -> Any:
        return await hash_once()

    assert asyncio.run(hash_in_a_task()) > niceness()


def test_at_the_command_line_it_hashes_where_it_is_called(hashing: HashingPool) -> None:
    assert hashing.verify(PASSWORD, hashing.hash(PASSWORD, TURN), TURN)
    assert hashing.slots.threads is None


def test_a_full_hashing_queue_is_503_and_leaves_other_requests_alone(
    start_service: MakeService, api: Api, busy_hashing: threading.Event
) -> None:
    busy = start_service()
    email, access_token = api.new_user(), api.log_in()["access_token"]
    most = places_of(busy)

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


def test_who_waits_for_a_hash_holds_no_connection(
    start_service: MakeService, api: Api, busy_hashing: threading.Event
) -> None:
    busy = start_service()
    email = api.new_user()
    number = places_of(busy) // 2

    def call(index: int) -> int:
        if index:
            return busy.token(email).status_code
        eventually(lambda: in_hashing(busy) == number)
        eventually(lambda: busy.metric("app_database_pool_in_use") == 0)
        busy_hashing.set()
        return 200

    busy_hashing.clear()

    assert set(at_once(number + 1, call)) == {200}


def test_an_invalid_request_does_not_wait_for_a_hash(start_service: MakeService) -> None:
    busy = start_service(bcrypt_rounds=4)

    with full_hashing(busy):
        full = busy.register()
        short = busy.register(password="short")
        invalid = busy.register("nonsense")

    assert error_of(full) == (503, "unavailable")
    assert int(full.headers["retry-after"]) > 0
    assert error_of(short) == (400, "validation_error")
    assert error_of(invalid) == (400, "validation_error")
