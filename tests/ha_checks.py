"""Failover, proven: `make ha-test`. Two replicas, a primary, a synchronous standby, clients, and accidents.

What clients were told must be true in the end, and nobody honest may lose a session. Times are printed, and
fail only when they are far beyond their bars, as machines are busy.
"""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import psycopg2
import pytest

from app.database.waiting import SILENCE_TIMEOUT_SECONDS
from tests.support import Started, StartProcess, eventually
from tests.support.clusters import Cluster, cluster
from tests.support.links import links
from tests.support.mix import Administrator, Changer, Journal, Newcomer, Person, Tab, Watcher, at_work

TABS: Final = 8
UNNOTICED_SECONDS: Final = 3
"""So long it takes an operator, or Patroni, to see that a server is away."""
WITHOUT_STANDBY_SECONDS: Final = SILENCE_TIMEOUT_SECONDS + 1
"""All limits of a statement pass while commits wait; none may turn that into a success."""
CALM_SECONDS: Final = 2
AGAIN_BAR: Final = 1.0
HEALTH_BAR: Final = 2.0
FAR_BEYOND: Final = 10
_HEADINGS: Final = (
    "what happens", "server ready", "no rotation for", "rotations again", "all clients", "/me again",
    "/health 503", "/health 200",
)  # fmt: skip


class Row(NamedTuple):
    """In seconds; those after `ready` from when a server took writes again. None: nothing was to be seen."""

    event: str
    ready: float | None
    gap: float
    writes: float
    everybody: float
    reads: float
    unhealthy: float | None
    healthy: float | None

    def __str__(self) -> str:
        values = ["-" if value is None else f"{value:.1f} s" for value in self[1:]]
        return "| " + " | ".join([self.event, *values]) + " |"


class Scene:
    """The clients at work, and what came of each accident."""

    def __init__(self, replicas: list[Started], people: list[Person], watchers: list[Watcher]) -> None:
        self.replicas = replicas
        self.people = people
        self.tabs = [each for each in people if isinstance(each, Tab)]
        self.rows: list[Row] = []
        self._watchers = watchers
        self.journal = people[0].service.journal

    def show(self, event: str, accident: Callable[[], float], *, health: bool = True) -> None:
        """`accident` returns when a server took writes again."""
        self._all_work(time.monotonic() + CALM_SECONDS)
        begin = time.monotonic()
        ready = accident()
        self._all_work(ready)
        self.rows.append(self._row(event, begin, ready, health=health))
        print(self.rows[-1], flush=True)  # noqa: T201 — what the command is for

    def _all_work(self, since: float) -> None:
        def work() -> bool:
            served = [self._first(what, since, tab.name) for tab in self.tabs for what in ("me", "refresh")]
            return None not in served and None not in self._noticed(since, healthy=True)

        eventually(work, lambda: f"everybody at work: {self.journal.attempts} {self.journal.failures}")

    def _first(self, what: str, since: float, who: str | None = None) -> float | None:
        return min((at for at in self.journal.times(what, who) if at > since), default=None)

    def _noticed(self, since: float, *, healthy: bool) -> list[float | None]:
        return [watcher.first(healthy=healthy, after=since) for watcher in self._watchers]

    def _row(self, event: str, begin: float, ready: float, *, health: bool) -> Row:
        def after(times: Any, moment: float) -> float:
            return max(float(at) for at in times) - moment

        times = [at for at in self.journal.times("refresh") if at > begin - 1]
        unhealthy = self._noticed(begin, healthy=False)
        seen = health and None not in unhealthy
        return Row(
            event,
            ready - begin if health else None,
            max(later - earlier for earlier, later in pairwise(times)),
            after([self._first("refresh", ready)], ready),
            after([self._first("refresh", ready, tab.name) for tab in self.tabs], ready),
            after([self._first("me", ready)], ready),
            after(unhealthy, begin) if seen else None,
            after(self._noticed(ready, healthy=True), ready) if health else None,
        )


@pytest.fixture(scope="module")
def servers() -> Iterator[Cluster]:
    with cluster() as servers:
        servers.synchronize()
        yield servers


@pytest.fixture
def scene(servers: Cluster, start_lasting_process: StartProcess) -> Iterator[Scene]:
    replicas = [
        start_lasting_process(servers.url(), WEB_CONCURRENCY="2", DRAIN_SECONDS="0").serves()
        for _ in range(2)
    ]
    urls, journal = [each.base_url for each in replicas], Journal()

    def promote(email: str) -> None:
        servers.primary.execute(f"UPDATE users SET role = 'admin' WHERE email = '{email}'")

    people: list[Person] = [Tab(turned(urls, n), journal, f"tab{n}") for n in range(TABS)]
    people += [Newcomer(urls, journal, "newcomer"), Changer(turned(urls, 1), journal, "changer")]
    people += [Administrator(urls, journal, "administrator", promote)]
    watchers = [Watcher(url) for url in urls]
    with at_work(people, watchers):
        yield Scene(replicas, people, watchers)
    for person in people:
        person.service.close()


def turned(urls: list[str], number: int) -> list[str]:
    return urls[number % 2 :] + urls[: number % 2]


def test_what_clients_were_told_stays_true(scene: Scene, servers: Cluster) -> None:
    print(f"\n\n| {' | '.join(_HEADINGS)} |")  # noqa: T201
    print("|---" * len(_HEADINGS) + "|")  # noqa: T201
    scene.show("primary killed", lambda: kill_primary(servers))
    follow(servers)
    scene.show("planned switchover", lambda: switch_over(servers))
    follow(servers)
    scene.show("synchronous standby killed", lambda: kill_standby(servers, scene), health=False)
    servers.standby.start()
    servers.synchronize()
    scene.show("primary frozen", lambda: freeze_primary(servers))
    thaw_and_look(servers, scene)
    follow(servers)
    with links(servers.primary.port, servers.standby.port) as (to_primary, to_standby):
        url = servers.url(to_primary, to_standby)  # type: ignore[arg-type] # their addresses
        scene.show("both replicas restarted", lambda: restart(scene, servers, url), health=False)
        scene.show("network cut", lambda: cut(to_primary))
    for each in scene.people:
        each.leaves.set()
    for each in scene.people:
        each.join()

    judge(scene, servers)


def kill_primary(servers: Cluster) -> float:
    servers.primary.kill()
    servers.fail_over()
    return time.monotonic()


def follow(servers: Cluster) -> None:
    """What was the primary becomes the synchronous standby."""
    servers.standby.kill()
    servers.standby.rewind(servers.primary)
    servers.synchronize()


def switch_over(servers: Cluster) -> float:
    """The primary waits at its end for the standby to have everything."""
    servers.primary.stop()
    servers.fail_over()
    return time.monotonic()


def kill_standby(servers: Cluster, scene: Scene) -> float:
    servers.standby.kill()
    begin = time.monotonic()
    time.sleep(WITHOUT_STANDBY_SECONDS)
    told = [
        at for at in scene.journal.times("refresh") if at > begin + 1
    ]  # what it has is told within a second
    assert told == []
    servers.desynchronize()
    return time.monotonic()


def freeze_primary(servers: Cluster) -> float:
    servers.primary.freeze()
    time.sleep(UNNOTICED_SECONDS)
    servers.fail_over()
    return time.monotonic()


def thaw_and_look(servers: Cluster, scene: Scene) -> None:
    """Its commits wait for a standby that has left it, so nobody is told of any."""
    promoted = servers.primary.execute("SELECT now()")
    servers.standby.thaw()
    scene.show("and thawed, for 3 s", a_while, health=False)
    visible = "SELECT count(*) FROM refresh_tokens WHERE rotated_at > '{}' OR created_at > '{}'"
    assert servers.standby.execute(visible.format(promoted, promoted)) == 0
    assert servers.primary.execute(visible.format(promoted, promoted)) > 0


def a_while() -> float:
    time.sleep(UNNOTICED_SECONDS)
    return time.monotonic()


def restart(scene: Scene, servers: Cluster, url: str) -> float:
    """One after the other; between them the schema becomes that of the next release."""
    for number, replica in enumerate(scene.replicas):
        replica.process.terminate()
        replica.ends()
        if number:
            migrate(servers)
        replica.start(DATABASE_URL=url)
        replica.serves()
    return time.monotonic()


def migrate(servers: Cluster) -> None:
    def is_done() -> bool:
        try:
            servers.primary.execute(
                "SET lock_timeout = '300ms'; ALTER TABLE refresh_tokens ADD COLUMN of_tomorrow text"
            )
        except psycopg2.errors.LockNotAvailable:
            return False
        return True

    eventually(is_done)
    servers.primary.execute("UPDATE alembic_version SET version_num = 'of_tomorrow'")


def cut(link: Any) -> float:
    link.cut()
    time.sleep(UNNOTICED_SECONDS)
    link.mend()
    return time.monotonic()


def judge(scene: Scene, servers: Cluster) -> None:
    journal = scene.journal
    print(f"\n{told(journal)}")  # noqa: T201
    assert journal.failures == []
    stored = [
        servers.primary.execute(f"SELECT token_id FROM refresh_tokens WHERE token_id = '{tab.token_id}'")
        for tab in scene.tabs
    ]
    assert None not in stored
    assert all(tab.refresh() for tab in scene.tabs)
    for person in scene.people:
        for lost in losses(person, servers):
            pytest.fail(f"lost: {lost}")
    for row in scene.rows:
        assert max(row.writes, row.reads) < FAR_BEYOND * AGAIN_BAR, row
        assert max(row.unhealthy or 0, row.healthy or 0) < FAR_BEYOND * HEALTH_BAR, row


def told(journal: Journal) -> str:
    done = {what: len(journal.times(what)) for what in sorted({each.what for each in journal.done})}
    return f"Answered: {done}. Repeated: {dict(journal.attempts)}."


def losses(person: Person, servers: Cluster) -> Iterator[str]:
    match person:
        case Newcomer():
            for email in person.registered:
                if servers.primary.execute(f"SELECT id FROM users WHERE email = '{email}'") is None:
                    yield f"the registration of {email}"
            for token in person.logged_out:
                body = {"refresh_token": token}
                if person.service.ask("refused", "POST", "/api/v1/refresh", json=body).status_code != 401:
                    yield "a logout"
        case Changer():
            if not person.service.log_in(person.email, person.password).is_success:
                yield "a new password"
        case Administrator():
            role = servers.primary.execute(f"SELECT role FROM users WHERE email = '{person.subject}'")
            if role != person.role:
                yield f"a change of role to {person.role}"
