"""Sockets of the database are heard of when they are ready, whatever became of their descriptors."""

import asyncio
import os
import select
import socket
from collections.abc import Callable
from contextlib import closing
from unittest.mock import Mock

import pytest
import uvloop

from app.database.readiness import Readiness, _Elsewhere, readiness
from tests.support import PATIENCE_SECONDS

READ, WRITE = select.POLLIN, select.POLLOUT


async def told(sockets: Readiness, descriptor: int, direction: int) -> bool:
    ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    sockets.tell(descriptor, direction, ready)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await ready


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize("kind", [Readiness, _Elsewhere])
def test_a_socket_is_told_of_once_it_is_ready(
    kind: type[Readiness], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def run() -> None:
        sockets = kind(asyncio.get_running_loop())
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            assert await told(sockets, ours.fileno(), WRITE)
            sockets.forget(ours.fileno())
            for _ in range(2):
                hearing = asyncio.ensure_future(told(sockets, ours.fileno(), READ))
                await asyncio.sleep(0)
                assert not hearing.done()
                theirs.send(b"x")
                assert await hearing
                sockets.forget(ours.fileno())
                ours.recv(1)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def test_a_descriptor_that_was_closed_unheard_is_another_sockets_next() -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        unheard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        number = ours.fileno()
        readiness().tell(number, READ, unheard)
        another, other = socket.socketpair()
        with closing(ours), closing(theirs), closing(another), closing(other):
            os.dup2(another.fileno(), number)  # closes `ours`; no other thread gets its number meanwhile
            hearing = asyncio.ensure_future(told(readiness(), number, READ))
            await asyncio.sleep(0)
            assert not hearing.done()
            other.send(b"x")
            assert await hearing
        assert not unheard.done()

    uvloop.run(run())


def test_what_nobody_waits_for_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Mock(side_effect=Readiness._hear)
    monkeypatch.setattr(Readiness, "_hear", lambda sockets: heard(sockets))  # noqa: PLW0108 — a Mock is no method

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            theirs.send(b"x")
            assert await told(readiness(), ours.fileno(), READ)
            theirs.close()  # there is more to hear now, and the end
            for _ in range(20):
                await asyncio.sleep(0)

    uvloop.run(run())
    assert heard.call_count == 1


def test_each_event_loop_of_a_thread_hears_for_itself() -> None:
    async def run() -> Readiness:
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            theirs.send(b"x")
            assert await told(readiness(), ours.fileno(), READ)
        return readiness()

    assert uvloop.run(run()) is not uvloop.run(run())
