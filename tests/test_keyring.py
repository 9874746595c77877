"""What keys are for follows from their times and the clock; whatever is done to them, whenever."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from app.security.keyring import (
    LATE,
    KeyLife,
    KeyState,
    KeyTimes,
    Schedule,
    at_once,
    due,
    lives_of,
    signer,
)

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
LIFETIME = timedelta(minutes=15)
SCHEDULE = Schedule(LIFETIME, timedelta(seconds=660), timedelta(days=1))
SKEW = timedelta(seconds=10)
READING = timedelta(seconds=60)
"""How old at most what a replica knows is."""
ORDER = [KeyState.PUBLISHED, KeyState.SIGNING, KeyState.VERIFYING, KeyState.GONE]


@dataclass
class Table:
    """The rows, and who reads them."""

    now: datetime = BEGIN
    rows: list[KeyTimes] = field(default_factory=list)

    def add(self, created_at: datetime, signs_from: datetime) -> None:
        kid = f"key{len(self.rows)}"
        self.rows.append(KeyTimes(kid, "ES256", created_at, signs_from, None))

    def revoke(self, kid: str, at: datetime) -> None:
        self.rows = [each._replace(revoked_at=at) if each.kid == kid else each for each in self.rows]

    def lives(self, rows: list[KeyTimes] | None = None) -> list[KeyLife]:
        return lives_of(self.rows if rows is None else rows, LIFETIME)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "wait", "upkeep", "upkeep", "rotate", "rotate now", "revoke"]),
        st.integers(0, 3600),
        st.floats(-1, 1).map(lambda part: part * SKEW),
    ),
    max_size=40,
)


def act(table: Table, action: str, seconds: int, skew: timedelta) -> None:
    """By a replica whose clock is off by `skew`."""
    table.now += timedelta(seconds=seconds)
    now, lives = table.now + skew, table.lives()
    if action == "upkeep" and (signs_from := due(lives, now, SCHEDULE)) is not None:
        table.add(now, at_once(lives, now) if signs_from == now else signs_from)
    elif action == "rotate" and lives:
        table.add(now, now + SCHEDULE.published_for)
    elif action == "rotate now":
        table.add(now, at_once(lives, now))
    elif action == "revoke" and (current := signer(lives, now)) is not None:
        table.revoke(current.times.kid, now)
        table.add(now, at_once(lives, now))


def made(actions: list[tuple[str, int, timedelta]]) -> Table:
    table = Table()
    for action in actions:
        act(table, *action)
    return table


@given(ACTIONS)
@example([("upkeep", 0, -SKEW), ("rotate now", 0, timedelta()), ("revoke", 0, SKEW)])
def test_after_an_upkeep_there_is_always_a_key_that_signs(actions: list[tuple[str, int, timedelta]]) -> None:
    table = made(actions)

    act(table, "upkeep", 0, timedelta())

    assert signer(table.lives(), table.now) is not None
    assert due(table.lives(), table.now, SCHEDULE) is None


PART = st.floats(0, 1)
SKEWS = st.floats(-1, 1).map(lambda part: part * SKEW)


@given(ACTIONS, ACTIONS, st.tuples(SKEWS, SKEWS), PART, PART)
def test_a_token_is_accepted_for_its_whole_life_unless_its_key_is_revoked(
    before: list[tuple[str, int, timedelta]],
    after: list[tuple[str, int, timedelta]],
    skews: tuple[timedelta, timedelta],
    old: float,
    age: float,
) -> None:
    """Signed by a replica that read the keys up to a minute ago; verified by one that has read all since."""
    table = made(before)
    act(table, "upkeep", 0, timedelta())
    issued_at = table.now + old * READING
    current = signer(table.lives(), issued_at + skews[0])
    assert current is not None

    presented_at = issued_at + age * LIFETIME
    for action, seconds, skew in after:
        if table.now + timedelta(seconds=seconds) <= presented_at:
            act(table, action, seconds, skew)

    (judged,) = [each for each in table.lives() if each.times.kid == current.times.kid]
    state = judged.state(presented_at + skews[1])
    assert state.is_trusted or judged.times.revoked_at is not None


@given(ACTIONS, st.lists(st.integers(0, 200_000), min_size=2, max_size=10))
def test_the_states_of_a_key_follow_each_other_and_none_comes_back(
    actions: list[tuple[str, int, timedelta]], seconds: list[int]
) -> None:
    for life in made(actions).lives():
        if life.times.revoked_at is None:
            states = [life.state(BEGIN + timedelta(seconds=each)) for each in sorted(seconds)]
            assert states == sorted(states, key=ORDER.index)


@given(ACTIONS, ACTIONS)
def test_a_key_that_is_gone_never_returns_whatever_is_done_later(
    before: list[tuple[str, int, timedelta]], after: list[tuple[str, int, timedelta]]
) -> None:
    table = made(before)
    then = table.now
    gone = {each.times.kid for each in table.lives() if each.state(then) is KeyState.GONE}

    for action in after:
        act(table, *action)

    for life in table.lives():
        if life.times.kid in gone:
            assert not life.state(table.now + 2 * SKEW).is_trusted


@given(ACTIONS)
def test_a_key_that_upkeep_makes_beside_another_is_published_before_it_signs(
    actions: list[tuple[str, int, timedelta]],
) -> None:
    table = Table()
    for action, seconds, skew in actions:
        number, had_signer = len(table.rows), signer(
            table.lives(), table.now + timedelta(seconds=seconds) + skew
        )  # fmt: skip
        act(table, action, seconds, skew)
        if action == "upkeep" and had_signer and len(table.rows) > number:
            assert table.rows[-1].signs_from - table.rows[-1].created_at == SCHEDULE.published_for


def test_a_key_whose_successor_cannot_be_used_signs_a_moment_longer_and_then_another_is_due() -> None:
    table = Table()
    table.add(BEGIN, BEGIN)
    table.add(BEGIN, BEGIN + timedelta(hours=1))
    usable = table.lives()[:1]
    takeover = BEGIN + timedelta(hours=1)

    assert signer(usable, takeover) == usable[0]
    assert due(usable, takeover - LATE, SCHEDULE) is None
    assert due(usable, takeover, SCHEDULE) == takeover
    assert signer(usable, takeover + LATE) is None


def test_where_none_has_begun_the_first_that_will_signs_already() -> None:
    table = Table()
    table.add(BEGIN, BEGIN + timedelta(minutes=11))

    current = signer(table.lives(), BEGIN)

    assert current is not None
    assert current.times.kid == "key0"


def test_a_key_that_was_revoked_before_it_began_takes_nothing_over() -> None:
    table = Table()
    table.add(BEGIN, BEGIN)
    table.add(BEGIN, BEGIN + timedelta(minutes=11))
    table.revoke("key1", BEGIN + timedelta(minutes=5))

    current = signer(table.lives(), BEGIN + timedelta(days=3))

    assert current is not None
    assert current.times.kid == "key0"


def test_a_retired_key_does_not_return_when_its_successor_is_revoked() -> None:
    table = Table()
    table.add(BEGIN, BEGIN)
    table.add(BEGIN, BEGIN + timedelta(hours=1))
    table.add(BEGIN, BEGIN + timedelta(hours=2))
    table.revoke("key1", BEGIN + timedelta(hours=2))

    states = [each.state(BEGIN + timedelta(hours=2, seconds=1)) for each in table.lives()]

    assert states == [KeyState.GONE, KeyState.REVOKED, KeyState.SIGNING]


def test_keys_are_replaced_by_command_alone_where_no_days_are_set() -> None:
    table = Table()
    table.add(BEGIN, BEGIN)
    schedule = SCHEDULE._replace(signs_for=None)

    assert due(table.lives(), BEGIN + timedelta(days=10_000), schedule) is None


@given(ACTIONS, SKEWS)
def test_a_key_that_is_to_sign_at_once_does_so_whatever_the_clock_that_made_the_others(
    actions: list[tuple[str, int, timedelta]], skew: timedelta
) -> None:
    table = made(actions)

    act(table, "rotate now", 0, skew)

    current = signer(table.lives(), table.now + LATE + SKEW)
    assert current is not None
    assert current.times.signs_from >= table.rows[-1].signs_from


def test_keys_of_another_algorithm_do_not_end_a_key() -> None:
    rows = [
        KeyTimes("a", "ES256", BEGIN, BEGIN, None),
        KeyTimes("b", "RS256", BEGIN, BEGIN + timedelta(hours=1), None),
    ]

    assert [each.superseded_at for each in lives_of(rows, LIFETIME)] == [None, None]
