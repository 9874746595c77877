"""The queue for hashing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.services.protection.fair_queue import WEIGHTS
from app.services.protection.turns import Turn
from tests.support.api import Api


def in_hashing(api: Api) -> int:
    """So many hash or wait for it."""
    slots = api.container.resources.hashing.slots
    return slots.taken + len(slots.queue)


@contextmanager
def full_hashing(api: Api) -> Iterator[None]:
    """Every lane is full of requests from this machine, so that whoever else comes from here is refused."""
    slots: Any = api.container.resources.hashing.slots
    slots.taken = slots.size
    fair = [lane for lane, weight in WEIGHTS.items() for _ in range(weight)]
    for number in range(slots.queue.limit):
        slots.queue.put(number, Turn(fair[number % len(fair)], "127.0.0.1"))
    yield
    while slots.queue.pop() is not None:
        pass
    slots.taken = 0
