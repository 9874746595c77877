"""Swagger UI and ReDoc in a real Chromium."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import PASSWORD, Api, eventually
from tests.support.chromium import PROGRAM, Tab, chromium

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not PROGRAM, reason="Chromium is not installed"),
]
ME = "fetch('api/v1/me').then((answer) => answer.status)"
TYPE = """((selector, text) => {
    const input = document.querySelector(selector);
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, text);
    input.dispatchEvent(new Event('input', { bubbles: true }));
})"""
BODY = "ui.oas3Selectors.requestBodyValue('/api/v1/token', 'post')"
AUTHORIZED = "ui.authSelectors.authorized().has('Password')"


@pytest.fixture
def tab(api: Api, tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path) as browser:
        yield browser.tab(f"{api.base_url.replace('127.0.0.1', 'localhost')}/docs")


def open_dialog(tab: Tab) -> None:
    tab.wait_for("document.querySelector('.btn.authorize')")
    tab.run("document.querySelector('.btn.authorize').click()")
    tab.wait_for("document.querySelector('.auth-container')")


def press(tab: Tab, label: str) -> None:
    buttons = "[...document.querySelectorAll('.auth-container button')]"
    tab.run(f"{buttons}.find((button) => button.textContent === '{label}').click()")


@pytest.mark.slow
def test_a_login_in_swagger_ui_survives_a_reload_and_ends_with_its_logout(api: Api, tab: Tab) -> None:
    email = api.new_user()
    open_dialog(tab)
    tab.run(f"{TYPE}('#oauth_username', '{email}')")
    tab.run(f"{TYPE}('#oauth_password', '{PASSWORD}')")
    tab.run(
        "document.querySelector('#oauth_username').closest('.auth-container').querySelector('.authorize').click()"
    )
    tab.wait_for(AUTHORIZED)
    assert tab.run(ME) == 200

    tab.go(tab.run("location.href"))
    tab.wait_for("window.ui || typeof ui !== 'undefined'")
    tab.wait_for(AUTHORIZED)

    open_dialog(tab)
    press(tab, "Logout")
    tab.wait_for(f"!{AUTHORIZED}")
    tab.run(f"(async () => {{ for (let i = 0; i < 100 && await {ME} === 200; i++); }})()")
    assert tab.run(ME) == 401


@pytest.mark.slow
def test_the_form_of_a_login_has_fields_to_fill_in(api: Api, tab: Tab) -> None:
    operation = "document.querySelector('#operations-sessions-create_token')"
    tab.wait_for(operation)
    tab.run(f"{operation}.querySelector('button').click()")
    tab.wait_for(f"{operation}.querySelector('.try-out__btn')")
    tab.run(f"{operation}.querySelector('.try-out__btn').click()")
    field = '#operations-sessions-create_token [data-property-name="{}"] input'
    tab.wait_for(f"document.querySelector('{field.format('password')}')")

    for name, value in (("username", api.new_user()), ("password", PASSWORD)):
        tab.run(f"{TYPE}('{field.format(name)}', '{value}')")
        tab.wait_for(f"{BODY}.getIn(['{name}', 'value']) === '{value}'")  # it takes what is typed a bit later
    tab.run(f"{operation}.querySelector('.execute').click()")

    status = f"{operation}.querySelector('.live-responses-table tbody .response-col_status')"
    tab.wait_for(status)
    assert tab.run(f"{status}.innerText").startswith("200")


@pytest.mark.slow
def test_a_refresh_is_not_filled_in_with_a_text_that_is_no_token(tab: Tab) -> None:
    operation = "document.querySelector('#operations-sessions-refresh_token')"
    tab.wait_for(operation)
    tab.run(f"{operation}.querySelector('button').click()")
    tab.wait_for(f"{operation}.querySelector('.try-out__btn')")
    tab.run(f"{operation}.querySelector('.try-out__btn').click()")
    tab.wait_for(f"{operation}.querySelector('textarea')")

    assert tab.run(f"{operation}.querySelector('textarea').value") == "{}"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "sign"), [("docs", ".opblock"), ("redoc", "h1")])
def test_a_page_asks_nothing_from_outside(tab: Tab, page: str, sign: str) -> None:
    own = urlsplit(tab.run("location.origin")).netloc
    tab.go(f"http://{own}/{page}")
    tab.wait_for(f"document.querySelector('{sign}')")

    assert len([url for url in tab.requested() if urlsplit(url).netloc == own]) >= 4
    eventually(lambda: outside(tab.requested(), own) == [], lambda: outside(tab.requested(), own))


def outside(urls: list[str], own: str) -> list[str]:
    return [url for url in urls if url.startswith("http") and urlsplit(url).netloc != own]
