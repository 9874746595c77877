"""Who hashes next, whatever comes in whatever order."""

from collections import Counter
from itertools import count, cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.protection.fair_queue import KNOWN_IN_A_ROW, WEIGHTS, FairQueue
from app.services.protection.turns import Lane, Turn

ENOUGH = 10_000
NETWORKS = [f"192.0.2.{number}" for number in range(5)]
QUIET = "198.51.100.1"

turns = st.builds(Turn, st.sampled_from(Lane), st.sampled_from(NETWORKS), st.booleans())
quiet_turns = st.builds(Turn, st.sampled_from(Lane), st.just(QUIET), st.booleans())
unknown_logins = st.builds(Turn, st.just(Lane.LOGIN), st.sampled_from(NETWORKS))
operations = st.lists(st.one_of(turns, st.just("pop"), st.just("leave")), max_size=200)
limits = st.integers(min_value=4, max_value=30)


def login(address: str, *, known_device: bool = False) -> Turn:
    return Turn(Lane.LOGIN, address, known_device)


def filled(limit: int, *turns: Turn) -> FairQueue[int]:
    """With the numbers of the turns."""
    queue: FairQueue[int] = FairQueue(limit)
    for number, turn in enumerate(turns):
        assert queue.put(number, turn) is None
    return queue


def emptied(queue: FairQueue[int]) -> list[int]:
    items = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


@given(operations, limits)
def test_each_one_leaves_the_queue_once_and_there_are_never_too_many(
    operations: list[Turn | str], limit: int
) -> None:
    queue: FairQueue[int] = FairQueue(limit)
    numbers, waiting, gone = count(), set[int](), Counter[int]()

    for operation in operations:
        out: int | None
        if isinstance(operation, Turn):
            number = next(numbers)
            waiting.add(number)
            out = queue.put(number, operation)
        elif operation == "pop":
            out = queue.pop()
            assert (out is None) == (not waiting)
        else:
            out = min(waiting, default=None)
            if out is not None:
                queue.remove(out)
        if out is not None:
            waiting.remove(out)
            gone[out] += 1
        assert len(queue) == len(waiting) == sum(queue.lengths().values()) <= limit
    gone.update(emptied(queue))

    assert gone == Counter(range(next(numbers)))


@given(st.lists(unknown_logins, min_size=2, max_size=60))
def test_addresses_take_turns_and_each_keeps_its_order(arrivals: list[Turn]) -> None:
    queue = filled(ENOUGH, *arrivals)
    left = Counter(turn.address for turn in arrivals)
    taken = Counter[str | None]()

    order = emptied(queue)

    for number in order:
        address = arrivals[number].address
        taken[address] += 1
        left[address] -= 1
        waiting = [each for each in left if left[each]]
        assert all(taken[address] - taken[each] <= 1 for each in waiting)
    for address in left:
        own = [number for number in order if arrivals[number].address == address]
        assert own == sorted(own)


@given(st.lists(st.lists(turns, max_size=6), min_size=1, max_size=20), quiet_turns)
def test_nobody_starves_whatever_comes_later(arrivals: list[list[Turn]], quiet: Turn) -> None:
    queue: FairQueue[int] = FairQueue(ENOUGH)
    mine, numbers = 0, count(1)
    for turn in (turn for later in arrivals for turn in later):
        queue.put(next(numbers), turn)
    queue.put(mine, quiet)
    lanes = sum(WEIGHTS.values()) // WEIGHTS[quiet.lane]
    at_the_latest = lanes * (KNOWN_IN_A_ROW + 1) * (len(NETWORKS) + 1)

    for later in islice(cycle(arrivals), at_the_latest):
        for turn in later:
            queue.put(next(numbers), turn)
        if queue.pop() == mine:
            return
    pytest.fail("still waits")


@given(limits, st.lists(unknown_logins, max_size=200))
def test_a_full_queue_takes_places_only_from_the_busiest_address(limit: int, arrivals: list[Turn]) -> None:
    queue: FairQueue[int] = FairQueue(limit)
    waiting: dict[int, str | None] = {}

    for number, turn in enumerate(arrivals):
        before = Counter(waiting.values())
        busiest = max(before.values(), default=0)
        out = queue.put(number, turn)
        waiting[number] = turn.address
        if out == number:
            assert before[turn.address] + 1 >= busiest
        elif out is not None:
            assert before[waiting[out]] == busiest > before[turn.address] + 1
            assert out == max(each for each in waiting if waiting[each] == waiting[out])
        if out is not None:
            del waiting[out]


def test_a_quiet_address_displaces_the_youngest_of_the_busiest() -> None:
    queue = filled(4, *[login(NETWORKS[0])] * 3, login(NETWORKS[1]))

    assert queue.put(4, login(QUIET)) == 2
    assert queue.put(5, login(NETWORKS[0])) == 5
    assert emptied(queue) == [0, 3, 4, 1]


def test_a_64_of_ipv6_is_one_address() -> None:
    queue = filled(8, login("2001:db8::1"), login("2001:db8::2"), login("2001:db8:0:1::1"), login(QUIET))

    assert emptied(queue) == [0, 2, 3, 1]


def test_known_devices_come_first_and_leave_one_turn_in_eight() -> None:
    known = [login(address, known_device=True) for address in NETWORKS * 4]
    queue = filled(ENOUGH, login(QUIET), login(QUIET), login(QUIET), *known)

    order = emptied(queue)

    assert [place for place, number in enumerate(order) if number < 3] == [7, 15, 22]


def test_known_devices_displace_unknown_ones_but_for_one_place_in_eight() -> None:
    places = 32
    queue = filled(places * 2, *[login(address) for address in NETWORKS for _ in range(13)][: places * 2])

    displaced = [queue.put(100 + each, login(QUIET, known_device=True)) for each in range(places * 2)]

    assert sum(item is not None and item < 100 for item in displaced) == places * 2 - places // 8
    assert displaced[-1] == 100 + places * 2 - 1
    assert queue.put(200, login(NETWORKS[0])) == 200


def test_an_unknown_device_finds_a_place_in_a_queue_of_known_ones() -> None:
    queue = filled(32, *[login(NETWORKS[0], known_device=True)] * 32)

    assert queue.put(100, login(QUIET)) == 31
    assert queue.put(101, login(QUIET)) == 30
    assert queue.put(102, login(QUIET)) == 102


@pytest.mark.parametrize("lane", Lane)
def test_a_flood_leaves_each_other_lane_its_share_of_the_places(lane: Lane) -> None:
    limit = 16
    queue = filled(limit, *[Turn(lane, address) for address in NETWORKS * 4][:limit])

    for other in Lane:
        for number in range(100):
            queue.put(100 * (1 + list(Lane).index(other)) + number, Turn(other, NETWORKS[number % 5]))

    assert queue.lengths() == {Lane.SIGNED_IN: 4, Lane.LOGIN: 8, Lane.REGISTRATION: 4}


def test_lanes_take_turns_by_their_weight() -> None:
    arrivals = [Turn(lane, QUIET) for lane in Lane for _ in range(20)]
    queue = filled(ENOUGH, *arrivals)

    first = Counter(arrivals[number].lane for number in emptied(queue)[:20])

    assert first == {Lane.SIGNED_IN: 5, Lane.LOGIN: 10, Lane.REGISTRATION: 5}


@pytest.mark.parametrize("lane", Lane)
def test_a_lane_saves_up_nothing_while_nobody_is_in_it(lane: Lane) -> None:
    arrivals = [Turn(other, QUIET) for other in Lane if other != lane for _ in range(50)]
    queue = filled(ENOUGH, *arrivals)
    for _ in range(60):
        queue.pop()
    for number in range(100, 120):
        queue.put(number, Turn(lane, QUIET))

    order = emptied(queue)[:8]

    assert sum(number >= 100 for number in order) <= 1 + 8 * WEIGHTS[lane] // 4
