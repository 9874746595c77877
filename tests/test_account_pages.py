"""The service's own pages for the links of mails, with a client and with a real Chromium."""

import base64
import hashlib
import logging
import re
from collections.abc import Iterator
from itertools import chain
from urllib.parse import urljoin

import httpx
import pytest

from app.application import create_app
from app.errors import ServiceError, TooManyRequests
from app.http.account_pages import words_in
from app.services.credentials.emails import EmailService
from app.services.delivery.languages import LANGUAGES
from tests.support import (
    NOWHERE,
    PASSWORD,
    Api,
    Lines,
    MakeService,
    bearer,
    make_settings,
    new_email,
    request,
    serve,
)
from tests.support.chromium import PROGRAM, Tab, chromium
from tests.support.mailboxes import Mailbox, sending
from tests.support.smtp import SmtpServer

PAGES = ["reset", "verify", "email", "restore"]
TOKEN = "hVp2aYw0mZk3nX8sQ1tLr5cJ7dGbEfUiOoPxNvMqKzA"
NEW_PASSWORD = "another correct horse"
PROBLEM = "That did not work"
ENGLISH = words_in("en")


@pytest.fixture(scope="module")
def service(start_lasting_service: MakeService, server: SmtpServer, modules_database_url: str) -> Api:
    return start_lasting_service(database_url=modules_database_url, **sending(server))


class Person:
    """Who has registered, and follows the links of mails; `new` is the mailbox of another email."""

    def __init__(self, api: Api, server: SmtpServer) -> None:
        self.api = api
        self.mails = Mailbox(server, api.new_user())
        self.new = Mailbox(server, new_email())
        self._verification = self.mails.next_token()

    def token_for(self, page: str) -> str:
        """Of a mail that leads to this page."""
        if page == "verify":
            return self._verification
        if page == "reset":
            self.api.http.post("/api/v1/password/forgot", json={"email": self.mails.address})
            return self.mails.next_token()
        body = {"new_email": self.new.address, "password": PASSWORD}
        login = bearer(self.api.log_in(self.mails.address)["access_token"])
        assert self.api.http.put("/api/v1/me/email", json=body, headers=login).status_code == 202
        return (self.new if page == "email" else self.mails).next_token()

    def may_log_in(self, email: str, password: str = PASSWORD) -> bool:
        return self.api.token(email, password).status_code == 200

    @property
    def is_verified(self) -> bool:
        access_token = self.api.log_in(self.mails.address)["access_token"]
        return bool(self.api.me(access_token).json()["email_verified"])


@pytest.fixture
def person(service: Api, server: SmtpServer) -> Person:
    return Person(service, server)


def send(api: Api, page: str, token: str, new_password: str | None = None, **headers: str) -> httpx.Response:
    """The form of the page."""
    if new_password is None and page == "reset":
        new_password = NEW_PASSWORD
    form = {"token": token} | ({} if new_password is None else {"new_password": new_password})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.http.post(f"/account/{page}", data=form, headers=named)


def page_of(response: httpx.Response) -> str:
    """After a check of what every page has."""
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"
    (style,) = re.findall(r"<style>(.*?)</style>", response.text, re.DOTALL)
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'self'"
    assert response.headers.get_list("content-security-policy") == [f"{policy}; frame-ancestors 'none'"]
    assert "<script" not in response.text
    return response.text


def title_of(page: str) -> str:
    (title,), (heading,) = re.findall("<title>(.*?)</title>", page), re.findall("<h1>(.*?)</h1>", page)
    assert title == heading
    return str(title)


def problem_on(response: httpx.Response) -> tuple[int, str, bool]:
    """The status, the words, and whether the form is there for another try."""
    (problem,) = re.findall('<p class="problem" role="alert" id="problem">(.*?)</p>', page_of(response))
    has_form = "<form" in response.text
    assert (title_of(response.text) == PROBLEM) != has_form
    return response.status_code, problem, has_form


def problem(code: str) -> str:
    return ENGLISH["problems"][code].format(8)


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_to_a_form_that_holds_its_token(api: Api, page: str) -> None:
    response = api.http.get(f"/account/{page}?token={TOKEN}")

    content = page_of(response)
    assert response.status_code == 200
    assert title_of(content) == ENGLISH[page]["title"]
    assert f'<form method="post" action="{page}">' in content  # relative, as a proxy may have a longer path
    assert content.count(TOKEN) == 1
    assert f'<input type="hidden" name="token" value="{TOKEN}">' in content
    assert ('autocomplete="new-password"' in content) == (page == "reset")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("query", ["", "?token=", "?tok=1", f"?token={'x' * 201}"])
def test_a_link_without_its_token_says_so(api: Api, page: str, query: str) -> None:
    response = api.http.get(f"/account/{page}{query}")

    assert problem_on(response) == (400, problem("invalid_link"), False)
    assert ENGLISH[page]["again"] in response.text


def test_what_stands_in_a_link_is_escaped(api: Api) -> None:
    response = api.http.get("/account/reset", params={"token": '"><script>alert(1)</script>'})

    assert 'value="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"' in page_of(response)


@pytest.mark.parametrize(
    ("accepted", "language"), [("de-AT, en;q=0.5", "de"), ("fr", "en"), ("en, de;q=0.9", "en")]
)
def test_pages_speak_the_language_of_the_browser(api: Api, accepted: str, language: str) -> None:
    headers = {"Accept-Language": accepted}
    response = api.http.get("/account/reset?token=x", headers=headers)
    refused = api.http.post("/account/reset", data={"token": "x", "new_password": "x"}, headers=headers)

    assert f'<html lang="{language}">' in page_of(response)
    assert title_of(response.text) == words_in(language)["reset"]["title"]
    assert title_of(refused.text) == words_in(language)["every_page"]["problem_title"]


def test_to_a_browser_of_another_language_they_speak_that_of_the_settings(database_url: str) -> None:
    with serve(create_app(make_settings(database_url=database_url, mail_language="de"))) as base_url:
        response = request("GET", f"{base_url}/account/verify?token=x", headers={"Accept-Language": "fr"})

    assert '<html lang="de">' in page_of(response)


def test_both_languages_say_the_same_things() -> None:
    said = {
        language: {
            (section, key): text
            for section, texts in words_in(language).items()
            for key, text in texts.items()
        }
        for language in LANGUAGES
    }

    assert said["en"].keys() == said["de"].keys()
    assert not {text for text in said["en"].values() if text in said["de"].values()}
    assert [key for key, text in said["en"].items() if "{}" in text] == [
        key for key, text in said["de"].items() if "{}" in text
    ]
    assert all("<" not in text for text in chain(*(texts.values() for texts in said.values())))


@pytest.mark.parametrize("page", PAGES)
def test_behind_a_proxy_that_strips_a_prefix_the_form_stays_below_it(database_url: str, page: str) -> None:
    with serve(create_app(make_settings(database_url=database_url)), root_path="/auth") as base_url:
        response = request("GET", f"{base_url}/account/{page}?token=x")

    (action,) = re.findall('<form method="post" action="(.*?)">', page_of(response))
    assert urljoin(f"https://board.test/auth/account/{page}?token=x", action) == (
        f"https://board.test/auth/account/{page}"
    )


def test_the_button_of_a_reset_sets_the_password(service: Api, person: Person) -> None:
    done = send(service, "reset", person.token_for("reset"))

    assert (done.status_code, title_of(page_of(done))) == (200, "Your password is set")
    assert person.may_log_in(person.mails.address, NEW_PASSWORD)
    assert not person.may_log_in(person.mails.address)


def test_the_button_confirms_an_email(service: Api, person: Person) -> None:
    before = person.is_verified
    done = send(service, "verify", person.token_for("verify"))

    assert (done.status_code, title_of(page_of(done))) == (200, "Your address is confirmed")
    assert (before, person.is_verified) == (False, True)


def test_the_button_confirms_a_new_email(service: Api, person: Person) -> None:
    done = send(service, "email", person.token_for("email"))

    assert (done.status_code, title_of(page_of(done))) == (200, "Your account has its new address")
    assert person.may_log_in(person.new.address)


def test_the_button_of_a_way_back_restores_the_email_and_ends_the_password(
    service: Api, person: Person
) -> None:
    done = send(service, "restore", person.token_for("restore"))

    assert (done.status_code, title_of(page_of(done))) == (200, "Your account has its old address")
    assert ENGLISH["restore"]["done"] in done.text
    assert not person.may_log_in(person.mails.address)
    assert send(service, "reset", person.mails.next_token()).status_code == 200
    assert person.may_log_in(person.mails.address, NEW_PASSWORD)


@pytest.mark.parametrize("page", PAGES)
def test_a_scanner_that_opens_a_link_spends_nothing_and_the_button_does(
    service: Api, person: Person, page: str
) -> None:
    token = person.token_for(page)

    looks = [service.http.request(method, f"/account/{page}?token={token}") for method in ("HEAD", "GET") * 2]
    first, second = (send(service, page, token) for _ in range(2))

    assert [look.status_code for look in looks] == [200] * 4
    assert [len(look.content) > 0 for look in looks] == [False, True] * 2
    assert first.status_code == 200
    assert problem_on(second) == (400, problem("invalid_link"), False)
    assert ENGLISH[page]["again"] in second.text


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("token", ["", TOKEN, "x" * 201, "\x00", "ä", None])
def test_a_form_needs_a_token_of_a_mail(service: Api, page: str, token: str | None) -> None:
    form = {"new_password": NEW_PASSWORD} | ({} if token is None else {"token": token})

    response = service.http.post(f"/account/{page}", data=form)

    assert problem_on(response) == (400, problem("invalid_link"), False)


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("1234567", "validation_error"),
        ("", "validation_error"),
        ("correct\x00horse", "validation_error"),
        ("x" * 1025, "validation_error"),
        ("password1", "password_too_common"),
    ],
)
def test_a_password_that_the_rules_refuse_is_asked_for_again(
    service: Api, person: Person, password: str, code: str
) -> None:
    token = person.token_for("reset")

    refused = send(service, "reset", token, password)

    assert problem_on(refused) == (400, problem(code), True)
    assert f'<input type="hidden" name="token" value="{token}">' in refused.text
    assert 'aria-describedby="hint problem"' in refused.text
    assert not password or password not in refused.text
    assert send(service, "reset", token).status_code == 200


def test_an_email_that_somebody_else_has_by_now_is_not_given(service: Api, person: Person) -> None:
    token = person.token_for("email")
    service.register(person.new.address)

    assert problem_on(send(service, "email", token)) == (409, problem("email_taken"), False)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site", "Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://evil.example"},
        {"Origin": "http://evil.example"},
    ],
)
def test_a_form_of_another_site_is_refused_and_spends_nothing(
    service: Api, person: Person, headers: dict[str, str]
) -> None:
    token = person.token_for("verify")

    refused = send(service, "verify", token, **headers)

    assert problem_on(refused) == (403, problem("cross_site_request"), False)
    assert send(service, "verify", token).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "same-origin", "Origin": "null"},
        {"Origin": "null"},
        {"Origin": "http://board.test"},
    ],
)
def test_a_form_of_our_own_is_taken_whatever_browsers_say_of_it(
    service: Api, person: Person, headers: dict[str, str]
) -> None:
    assert send(service, "verify", person.token_for("verify"), **headers).status_code == 200


def test_without_a_database_a_page_says_when_to_come_again(start_service: MakeService) -> None:
    api = start_service(database_url=NOWHERE)

    answers = [send(api, page, TOKEN) for page in PAGES]

    assert [problem_on(answer) for answer in answers] == [(503, problem("unavailable"), True)] * 4
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TooManyRequests("guesses", 7), 429, "too_many_requests"),
        (RuntimeError("unforeseen"), 500, "internal_error"),
    ],
)
def test_every_other_error_has_words_and_the_status_of_the_api(
    service: Api, monkeypatch: pytest.MonkeyPatch, error: ServiceError | RuntimeError, status: int, code: str
) -> None:
    def confirm(*_: object) -> None:
        raise error

    monkeypatch.setattr(EmailService, "confirm", confirm)

    answer = send(service, "verify", TOKEN)

    assert problem_on(answer) == (status, problem(code), True)
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


def test_a_form_that_is_too_large_is_refused_in_words(service: Api) -> None:
    answer = send(service, "reset", TOKEN, "x" * 65_536)

    assert problem_on(answer) == (413, problem("payload_too_large"), False)


def test_no_token_and_no_password_is_in_a_log(
    start_service: MakeService,
    server: SmtpServer,
    fresh_database_url: str,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", lines)  # pytest has put back its own since that fixture
    for neighbour in ("httpx", "httpcore", "mail.log"):  # the tests' own, in the same process
        logging.getLogger(neighbour).setLevel(logging.WARNING)
    api = start_service(
        database_url=fresh_database_url, log_level="DEBUG", log_format="json", **sending(server)
    )
    token = Person(api, server).token_for("reset")

    for answer in (
        api.http.get(f"/account/reset?token={token}"),
        api.http.get(f"/account/reset/?token={token}"),
        send(api, "reset", token, Sec_Fetch_Site="cross-site"),
        send(api, "reset", token, "short"),
        send(api, "reset", token),
        send(api, "reset", token),
    ):
        assert token not in answer.headers.get("location", "").partition("?")[0]

    routes = [event["route"] for event in lines.requests(7)]
    assert routes.count("/account/reset") == 5
    assert token not in str(lines.lines)
    assert NEW_PASSWORD not in str(lines.lines)


def test_where_there_is_a_frontend_a_page_leads_there_once_it_is_done(
    start_service: MakeService, server: SmtpServer, fresh_database_url: str
) -> None:
    frontend = {"frontend_url": "https://board.example.com"}
    api = start_service(database_url=fresh_database_url, **sending(server, **frontend))
    link = '<a href="https://board.example.com">Go to Kanban</a>'

    asked = api.http.get(f"/account/verify?token={TOKEN}")
    done = send(api, "verify", Person(api, server).token_for("verify"))

    assert link not in page_of(asked)
    assert link in page_of(done)


in_a_browser = pytest.mark.skipif(not PROGRAM, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser.tab("about:blank")


def open_page(tab: Tab, api: Api, page: str, token: str, host: str = "127.0.0.1") -> None:
    tab.go(f"{api.base_url.replace('127.0.0.1', host)}/account/{page}?token={token}")
    assert tab.run("document.title") == ENGLISH[page]["title"]


def press_button(tab: Tab) -> tuple[str, str]:
    """By the keyboard. Title and text of the page that follows."""
    tab.run("document.querySelector('button').focus()")
    tab.go_on(tab.press_enter)
    assert tab.run("document.referrer") == ""
    assert "token" not in tab.run("location.href")
    return tab.run("document.title"), tab.run("document.querySelector('main').innerText")


@in_a_browser
@pytest.mark.process
@pytest.mark.parametrize("host", ["127.0.0.1", "board.test"])
def test_a_password_is_typed_into_the_page_of_a_mails_link(
    tab: Tab, service: Api, person: Person, host: str
) -> None:
    """Outside of localhost and https browsers say nothing of a form but the Origin `null`."""
    open_page(tab, service, "reset", person.token_for("reset"), host)
    tab.type("password1")  # it has the focus
    refused, words = press_button(tab)
    tab.type(NEW_PASSWORD)
    tab.go_on(tab.press_enter)

    assert refused == "Choose a password"
    assert problem("password_too_common") in words
    assert tab.run("document.title") == "Your password is set"
    assert person.may_log_in(person.mails.address, NEW_PASSWORD)


@in_a_browser
@pytest.mark.process
def test_a_short_password_does_not_leave_the_browser(tab: Tab, service: Api) -> None:
    open_page(tab, service, "reset", TOKEN)

    tab.type("1234567")
    assert tab.run("document.querySelector('form').checkValidity()") is False
    tab.type("8")
    assert tab.run("document.querySelector('form').checkValidity()") is True


@in_a_browser
@pytest.mark.process
def test_emails_are_confirmed_changed_and_kept_by_buttons(tab: Tab, service: Api, person: Person) -> None:
    said = []
    for page in ("verify", "email"):
        open_page(tab, service, page, person.token_for(page))
        said.append(press_button(tab)[0])
    open_page(tab, service, "restore", person.mails.next_token())
    said.append(press_button(tab)[0])
    open_page(tab, service, "reset", person.mails.next_token())
    tab.type(NEW_PASSWORD)
    said.append(press_button(tab)[0])

    assert said == [ENGLISH[page]["done_title"] for page in ("verify", "email", "restore", "reset")]
    assert person.may_log_in(person.mails.address, NEW_PASSWORD)


@in_a_browser
@pytest.mark.process
@pytest.mark.parametrize("is_dark", [False, True])
def test_a_page_has_its_style_and_fits_on_a_phone(tab: Tab, service: Api, *, is_dark: bool) -> None:
    tab.resize(360, dark=is_dark)
    open_page(tab, service, "restore", TOKEN)

    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if is_dark else "rgb(255, 255, 255)")
    assert tab.run("document.documentElement.scrollWidth") == 360
    tab.resize(800, dark=is_dark)
    assert tab.run("document.querySelector('main').offsetWidth") == 416
