"""The browser client of clients/typescript in a real Chromium; `make clients-test` builds it."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.devdb import PROJECT
from tests.support import PASSWORD, Api, MakeService, MovableClock, eventually, new_email
from tests.support.chromium import PROGRAM, Browser, Tab, chromium
from tests.support.lossy import Lossy, lossy

BUILT = PROJECT / "clients" / "typescript" / "dist" / "browser"
MODULES = ("index", "rounds", "persistence", "errors")
SETUP = """import('/app/index.js').then(({ createAuthClient }) => {
    window.reasons = [];
    window.auth = createAuthClient({ onSignedOut: (reason) => window.reasons.push(reason) });
})"""
ME = "auth.me().then((user) => user.email, (error) => error.name)"

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not BUILT.exists(), reason="`make clients-test` has not built it"),
]
needs_chromium = pytest.mark.skipif(not PROGRAM, reason="Chromium is not installed")


class Scene(NamedTuple):
    api: Api
    clock: MovableClock
    proxy: Lossy
    browser: Browser

    def open(self, number: int = 1) -> list[Tab]:
        tabs = [self.browser.tab(self.proxy.url + "/app/") for _ in range(number)]
        self.browser.together(tabs, SETUP)
        return tabs

    def reasons(self, tabs: list[Tab]) -> list[Any]:
        return self.browser.together(tabs, "window.reasons")


@pytest.fixture
def scene(start_service: MakeService, tmp_path: Path) -> Iterator[Scene]:
    clock = MovableClock()
    api = start_service(clock=clock)
    with lossy(api.base_url, BUILT) as proxy, chromium(tmp_path) as browser:
        yield Scene(api, clock, proxy, browser)


def sign_in(tab: Tab, email: str) -> None:
    assert tab.run(f"auth.login('{email}', '{PASSWORD}').then((user) => user.email)") == email


def test_it_is_small_and_needs_nothing() -> None:
    code = b"".join((BUILT / f"{name}.js").read_bytes() for name in MODULES)

    assert len(gzip.compress(code)) <= 4096
    assert sorted(BUILT.glob("*.js")) == sorted(BUILT / f"{name}.js" for name in MODULES)
    assert b' from "./' in code
    assert code.count(b' from "') == code.count(b' from "./')


@needs_chromium
def test_a_user_registers_and_logs_in_and_out(scene: Scene) -> None:
    (tab,) = scene.open()
    email = new_email()

    assert tab.run(ME) == "SignedOutError"
    assert tab.run(f"auth.register('{email}', '{PASSWORD}').then((user) => user.email)") == email
    taken = tab.run(f"auth.register('{email}', '{PASSWORD}').catch((error) => [error.status, error.code])")
    assert taken == [409, "email_taken"]
    assert tab.run("auth.logout()") is None
    assert tab.run(ME) == "SignedOutError"
    assert tab.run("window.reasons") == ["logout"]


@needs_chromium
def test_five_tabs_refresh_once_a_round_and_lost_answers_sign_nobody_out(scene: Scene) -> None:
    tabs, email = scene.open(5), scene.api.new_user()
    sign_in(tabs[0], email)
    scene.browser.together(tabs, ME)
    scene.proxy.loss = 0.05
    asked = "(async () => { for (let i = 0; i < 20; i++) try { return (await auth.me()).email } catch {} })()"

    for number in range(1, 21):
        scene.clock.move(minutes=16)
        assert scene.browser.together(tabs, asked) == [email] * 5
        assert len(set(scene.proxy.keys)) == number
    assert scene.reasons(tabs) == [[]] * 5
    assert set(scene.proxy.statuses) == {200}


@needs_chromium
def test_a_refresh_whose_answer_is_lost_is_repeated_as_the_same_one(scene: Scene) -> None:
    (tab,) = scene.open()
    email = scene.api.new_user()
    sign_in(tab, email)

    for number in range(1, 4):
        scene.clock.move(minutes=16)
        scene.proxy.refreshes_to_lose = 2
        assert tab.run(ME) == email
        assert (len(scene.proxy.keys), len(set(scene.proxy.keys))) == (3 * number, number)

    assert tab.run("window.reasons") == []


@needs_chromium
def test_a_tab_that_is_closed_in_its_refresh_leaves_the_next_one_to_finish_it(scene: Scene) -> None:
    first, second = scene.open(2)
    email = scene.api.new_user()
    sign_in(first, email)
    scene.clock.move(minutes=16)
    scene.proxy.refreshes_to_lose = 1000
    first.run(f"void {ME}")
    eventually(lambda: scene.proxy.keys)
    first.go("about:blank")
    scene.proxy.refreshes_to_lose = 0

    assert second.run(ME) == email

    assert len(set(scene.proxy.keys)) == 1
    assert second.run("window.reasons") == []


@needs_chromium
def test_a_laptop_that_slept_refreshes_before_it_asks(scene: Scene) -> None:
    tabs, email = scene.open(2), scene.api.new_user()
    sign_in(tabs[0], email)

    for hours in (8, -1):  # a clock that was wrong is set back
        scene.clock.move(hours=8)
        jump = f"(({{ now }}) => {{ Date.now = () => now() + {hours * 3_600_000} }})(Date)"
        scene.browser.together(tabs, jump)
        assert scene.browser.together(tabs, ME) == [email] * 2

    assert len(set(scene.proxy.keys)) == 2
    assert scene.reasons(tabs) == [[], []]


@needs_chromium
def test_a_logout_in_one_tab_is_felt_in_all_once(scene: Scene) -> None:
    tabs, email = scene.open(3), scene.api.new_user()
    sign_in(tabs[0], email)
    assert scene.browser.together(tabs, ME) == [email] * 3

    tabs[1].run("auth.logout()")

    for tab in tabs:
        tab.wait_for("window.reasons.length")
    assert scene.browser.together(tabs, ME) == ["SignedOutError"] * 3
    assert scene.reasons(tabs) == [["logout"]] * 3
    assert scene.proxy.keys == []


@needs_chromium
@pytest.mark.parametrize(("days", "reason"), [(0, "ended"), (8, "expired")])
def test_who_is_signed_out_from_elsewhere_hears_why(scene: Scene, days: int, reason: str) -> None:
    tabs, email = scene.open(2), scene.api.new_user()
    sign_in(tabs[0], email)
    scene.browser.together(tabs, ME)
    scene.clock.move(days=days)
    scene.api.log_out(scene.api.log_in(email)["access_token"]) if not days else None

    assert scene.browser.together(tabs, ME) == ["SignedOutError"] * 2

    for tab in tabs:
        tab.wait_for("window.reasons.length")
    assert scene.reasons(tabs) == [[reason]] * 2


@needs_chromium
def test_without_locks_two_tabs_race_and_stay_signed_in(scene: Scene) -> None:
    """As at http:// outside of localhost."""
    tabs, email = scene.open(2), scene.api.new_user()
    scene.browser.together(tabs, "Object.defineProperty(navigator, 'locks', { value: undefined }) && 0")
    sign_in(tabs[0], email)

    for _ in range(5):
        scene.clock.move(minutes=16)
        assert scene.browser.together(tabs, ME) == [email] * 2

    assert scene.reasons(tabs) == [[], []]
