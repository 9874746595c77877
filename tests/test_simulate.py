"""The model to plan by: queues of known theory come out as theory says, and a morning as it did before."""

import pytest

from benchmarks.simulate import COSTS, Cost, Fleet, Morning, closed, enough, simulate


@pytest.mark.slow
def test_two_calm_replicas_serve_all_who_come() -> None:
    morning = Morning(1_000_000)

    report = simulate(morning, Fleet(2), 8)

    assert not report.shed
    for kind, rate in morning.rates().items():
        assert report.rate(kind) == pytest.approx(rate, rel=0.2)
        assert report.quantile(kind, 50) > COSTS[kind].worker + COSTS[kind].hash


@pytest.mark.slow
def test_more_logins_than_cores_can_hash_are_shed_and_the_rest_goes_on() -> None:
    crowd = Morning(1_000_000, logging_in=1.0)

    report = simulate(crowd, Fleet(2, cores=2), 20)

    assert report.shed["login"] > 0
    assert report.rate("login") == pytest.approx(2 * 2 * 1000 / 240, rel=0.15)
    assert report.quantile("me", 99) < 50
    assert not report.shed["me"]


@pytest.mark.slow
def test_a_closed_system_is_as_fast_as_its_narrowest_part() -> None:
    worker_bound = closed({"me": (16, Cost(1.0, 0.2))}, cores=4, seconds=4)
    core_bound = closed({"me": (16, Cost(1.0, 1.0))}, cores=1, seconds=4)

    assert worker_bound.rate("me") == pytest.approx(1000, rel=0.05)
    assert core_bound.rate("me") == pytest.approx(500, rel=0.05)
    assert core_bound.quantile("me", 50) == pytest.approx(16 / 500 * 1000, rel=0.1)


def test_the_same_seed_gives_the_same_morning() -> None:
    first, second = (simulate(Morning(500_000), Fleet(1), 5, seed=7) for _ in range(2))

    assert first.milliseconds == second.milliseconds


@pytest.mark.slow
def test_enough_replicas_grow_with_the_users() -> None:
    few, many = (enough(Morning(users), Fleet(1), 3, p99=50).replicas for users in (300_000, 3_000_000))

    assert few < many <= 12 * few
