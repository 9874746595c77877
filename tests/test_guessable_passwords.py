"""Nobody chooses a password that a guesser tries first."""

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

import httpx
import pytest

from app.errors import PasswordTooCommon
from app.security.common_passwords import FILE, SIZE, is_common
from app.services.protection.password_policy import NewPassword, PasswordPolicy
from tests.support import PASSWORD, Api, MakeService, bearer, error_of, new_email
from tests.support.accounts import Admin
from tests.support.commands import Ended, run_command
from tests.support.hashing import full_hashing

COMMON = "trustno1"
REFUSED = (400, "password_too_common")


@pytest.fixture
def policy() -> PasswordPolicy:
    return PasswordPolicy(min_length=8, blocklist=True, issuer="https://login.acme-boards.dev")


def refuses(policy: PasswordPolicy, password: str, email: str = "ada@example.com") -> bool:
    try:
        policy.check(NewPassword(password, email))
    except PasswordTooCommon:
        return True
    return False


def test_the_list_is_of_ordered_fingerprints_of_two_hundred_thousand_passwords() -> None:
    content = FILE.read_bytes()
    fingerprints = [content[at : at + SIZE] for at in range(0, len(content), SIZE)]

    assert fingerprints == sorted(set(fingerprints))
    assert len(fingerprints) == 190_967


@pytest.mark.parametrize(
    "password",
    [
        "password", "12345678", "1234567890", "qwertyuiop", "iloveyou", "trustno1", "football1", "welcome123",
        "1q2w3e4r5t", "zaq12wsx", "P@ssw0rd", "11111111", "aaaaaaaa", "abcdefgh", "princess1", "admin123",
        "PASSWORD", "TrustNo1", "Password123!",
        " " * 8, "\u3000" * 9, "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44",
        "dragon!!", "  sunshine  ", "...letmein...", "Qwerty123!",
    ],
)  # fmt: skip
def test_a_common_password_is_refused_in_any_case_and_with_punctuation_around_it(
    policy: PasswordPolicy, password: str
) -> None:
    assert refuses(policy, password)


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD, "correct horse battery staple", "a new password", "purple monkey dishwasher", "Tr0ub4dor&3",
        "my password is long", "4 kanban boards, please", "adalovelaces engine", "example of a good one",
        "caf\u00e9 caf\u00e9", "\u043b\u043e\u0448\u0430\u0434\u044c \u0438 \u0434\u043e\u043c",
        "13800138001", "7#$%^&*@", "x" * 1024,
    ],
)  # fmt: skip
def test_a_good_password_is_taken(policy: PasswordPolicy, password: str) -> None:
    assert not refuses(policy, password, "ada.lovelace@example.com")


def test_random_passwords_are_not_taken_for_common_ones() -> None:
    """By chance it happens to one in three millions: 2 x 190,967 / 2**40."""
    randoms = (sha256(str(number).encode()).hexdigest()[:12] for number in range(20_000))

    assert not any(map(is_common, randoms))


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada.quillfeather@harbour-mist.org", password)
        for password in (
            "ada.quillfeather@harbour-mist.org", "Ada.Quillfeather@Harbour-Mist.org", "ada.quillfeather",
            "AdaQuillfeather", "quillfeather", "ada-quillfeather-1815", "Quillfeather1815!",
            "1815quillfeather", "!!quillfeather!!", "harbour-mist.org", "harbour-mist", "HarbourMist",
            "Harbour#2026",
        )
    ] + [
        ("quillfeather1815@example.com", "quillfeather1815"),
        ("quillfeather1815@example.com", "quillfeather1816"),
        ("13800138000@example.com", "13800138000"),
        ("13800138000@example.com", "13800138000!"),
        ("ada+penguins@example.com", "penguins2026"),
        ("ada@xn--mnchen-3ya.example", "m\u00fcnchen1"),
        ("ada@xn--mnchen-3ya.example", "M\u00dcNCHEN.example"),
        ("\u03b1\u03b4\u03ac\u03bc@example.com", "\u0391\u0394\u0386\u039c2026"),
    ],
)  # fmt: skip
def test_the_own_email_and_its_parts_are_refused_with_anything_but_letters_around_them(
    policy: PasswordPolicy, email: str, password: str
) -> None:
    assert refuses(policy, password, email)
    assert not refuses(policy, password, "grace@another.invalid")


@pytest.mark.parametrize("password", ["kanban2026", "Kanban!!", "acme-boards", "AcmeBoards1", "Boards2026!"])
def test_the_name_of_the_service_is_refused(policy: PasswordPolicy, password: str) -> None:
    assert refuses(policy, password)


def test_parts_of_less_than_four_characters_do_not_count(policy: PasswordPolicy) -> None:
    assert not refuses(policy, "ada-1815-36", "ada@bob.com")
    assert not refuses(policy, "com-1815-36", "ada@bob.com")


def register(api: Api, password: str) -> httpx.Response:
    return api.register(password=password)


def change(api: Api, password: str) -> httpx.Response:
    body = {"current_password": PASSWORD, "new_password": password}
    token = api.log_in()["access_token"]
    return api.http.put("/api/v1/me/password", json=body, headers=bearer(token))


def create(api: Api, password: str) -> httpx.Response:
    admin = Admin(api, api.operator.resources.engines[0])
    return admin.call("POST", json={"email": new_email(), "password": password})


Choose = Callable[[Api, str], httpx.Response]
everywhere = pytest.mark.parametrize(
    ("choose", "field"), [(register, "password"), (create, "password"), (change, "new_password")]
)


@everywhere
def test_it_is_refused_wherever_a_password_is_chosen(api: Api, choose: Choose, field: str) -> None:
    response = choose(api, COMMON)

    assert error_of(response) == REFUSED
    (problem,) = response.json()["detail"]
    assert problem["loc"] == ["body", field]
    assert problem["type"] == "password_too_common"
    assert COMMON not in response.text


@everywhere
def test_the_blocklist_can_be_turned_off(start_service: MakeService, choose: Choose, field: str) -> None:
    trusting = start_service(password_blocklist=False)

    assert choose(trusting, COMMON).is_success, field


def test_the_own_email_is_refused_wherever_a_password_is_chosen(api: Api) -> None:
    email = api.new_user()
    token = api.log_in(email)["access_token"]
    body = {"current_password": PASSWORD, "new_password": email}

    assert error_of(api.http.put("/api/v1/me/password", json=body, headers=bearer(token))) == REFUSED
    assert error_of(api.register("grace.hopper@example.com", "GraceHopper1906")) == REFUSED


def test_the_length_comes_first_and_neither_waits_for_a_hash(start_service: MakeService) -> None:
    busy = start_service()

    with full_hashing(busy):
        assert error_of(busy.register(password="dragon")) == (400, "validation_error")
        assert error_of(busy.register(password=COMMON)) == REFUSED
        assert error_of(busy.register(password=PASSWORD)) == (503, "unavailable")


def test_who_is_registered_is_not_told_by_it(api: Api) -> None:
    assert error_of(api.register(api.new_user(), COMMON)) == REFUSED
    assert error_of(api.register(new_email(), COMMON)) == REFUSED


@pytest.fixture
def run(fresh_database_url: str) -> Callable[..., Ended]:
    return partial(run_command, fresh_database_url)


def test_a_command_refuses_a_common_password_unless_it_is_forced(
    run: Callable[..., Ended], start_service: MakeService, fresh_database_url: str
) -> None:
    create = ("users", "create", "ada@example.com", "--password-stdin")
    refused = run(*create, stdin=COMMON)
    forced = run(*create, "--force", "--json", stdin=COMMON)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert "--force" in refused.stderr
    assert forced.returncode == 0, forced.stderr
    assert forced.stderr.startswith("Warning: ")
    assert COMMON not in refused.stderr + forced.stdout + forced.stderr
    api = start_service(database_url=fresh_database_url)
    assert api.token("ada@example.com", COMMON).status_code == 200


def test_a_command_that_sets_a_password_holds_it_against_the_users_email(run: Callable[..., Ended]) -> None:
    run("users", "create", "grace.hopper@example.com", "--password-stdin", stdin=PASSWORD)
    set_password = ("users", "set-password", "grace.hopper@example.com", "--password-stdin")

    refused = run(*set_password, stdin="GraceHopper1906")
    forced = run(*set_password, "--force", stdin="GraceHopper1906")
    quiet = run(*set_password, "--force", stdin=PASSWORD)

    assert (refused.returncode, forced.returncode, quiet.returncode) == (1, 0, 0)
    assert (forced.stderr[:8], quiet.stderr) == ("Warning:", "")


def test_force_does_not_shorten_the_shortest_password(run: Callable[..., Ended]) -> None:
    refused = run("users", "create", "ada@example.com", "--password-stdin", "--force", stdin="dragon")

    assert refused.returncode == 1
    assert "at least 8 characters" in refused.stderr


def test_the_document_tells_the_code_where_a_password_is_chosen(api: Api) -> None:
    paths: dict[str, Any] = api.http.get("/openapi.json").json()["paths"]
    told = {
        (method, path)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "password_too_common" in str(operation["responses"].get("400"))
    }

    assert told == {
        ("post", "/api/v1/users/"),
        ("post", "/api/v1/admin/users"),
        ("put", "/api/v1/me/password"),
        ("post", "/api/v1/password/reset"),
    }
