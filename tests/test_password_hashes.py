"""Hashes of every origin: ours, another table's, and none at all."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import bcrypt
import pytest
from sqlalchemy import Engine

from app.security.passwords import PasswordHasher
from tests.support import PASSWORD, Api, MakeService, error_of, new_email
from tests.support.accounts import disable, get_hash, set_hash

ROUNDS = 7
WRONG = "another horse staple"


def legacy(password: str | bytes, cost: int = 4) -> str:
    """As the table of an older system has it: plain bcrypt, which looks at 72 bytes."""
    given = password if isinstance(password, bytes) else password.encode()
    return bcrypt.hashpw(given[:72], bcrypt.gensalt(cost)).decode()


@pytest.fixture
def iterations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations of each bcrypt hash that is computed, as they add up."""
    done: list[int] = []
    compute = bcrypt.hashpw

    def counted(password: bytes, salt: bytes) -> bytes:
        done.append(2 ** int(salt.split(b"$")[2]))
        return compute(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", counted)
    return done


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
@pytest.mark.parametrize(
    "hashed",
    [
        None,
        "!",
        "$2b$04$broken",
        legacy(PASSWORD, 4),
        legacy(PASSWORD, ROUNDS - 1),
        legacy(PASSWORD, ROUNDS),
        PasswordHasher(5).hash(PASSWORD),
        PasswordHasher(ROUNDS).hash(PASSWORD),
    ],
    ids=["none", "unusable", "broken", "bcrypt-4", "bcrypt-6", "bcrypt-7", "ours-5", "ours-7"],
)
def test_a_password_takes_the_same_work_whatever_hash_it_is_held_against(
    hashed: str | None, password: str, iterations: list[int]
) -> None:
    matches = PasswordHasher(ROUNDS).verify(password, hashed)

    assert sum(iterations) == 2**ROUNDS
    assert matches == (password == PASSWORD and hashed is not None and len(hashed) > 20)


def test_a_refused_login_takes_the_same_work_whether_the_account_is_unknown_known_imported_or_disabled(
    start_service: MakeService, engine: Engine, iterations: list[int]
) -> None:
    api = start_service(bcrypt_rounds=ROUNDS)
    known, imported, disabled = api.new_user(), api.new_user(), api.new_user()
    for email in (imported, disabled):
        set_hash(engine, email, legacy(PASSWORD))
    disable(engine, disabled)

    def work(email: str, password: str) -> int:
        iterations.clear()
        assert error_of(api.token(email, password)) == (401, "invalid_credentials")
        return sum(iterations)

    everybody = (new_email(), known, imported, disabled)
    assert [work(email, WRONG) for email in everybody] == [2**ROUNDS] * 4
    assert work(disabled, PASSWORD) == 2**ROUNDS


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of this thread alone, so that a busy machine does not count."""
    before = time.thread_time()
    work()
    return time.thread_time() - before


def medians_of_refusals(hashes: list[str | None]) -> Iterator[float]:
    refuse = partial(PasswordHasher(10).verify, WRONG)
    interleaved = [[cpu_seconds(partial(refuse, hashed)) for hashed in hashes] for _ in range(3)]
    return (statistics.median(times) for times in zip(*interleaved, strict=True))


def test_unknown_known_and_imported_accounts_are_refused_in_the_same_time() -> None:
    hashes = [None, PasswordHasher(10).hash(PASSWORD), legacy(PASSWORD, 8)]

    for _ in range(10):  # other programs on the same core may slow one of them down
        unknown, known, imported = medians_of_refusals(hashes)
        if max(unknown, known, imported) < 1.1 * min(unknown, known, imported):
            return

    pytest.fail(f"unknown {unknown:.3f} s, known {known:.3f} s, imported {imported:.3f} s")


LONG = "a passphrase that an older system cut off after its first 72 bytes: " + "0123456789"


@pytest.mark.parametrize("owner", [LONG, LONG[:73], LONG[:72]], ids=len)
@pytest.mark.parametrize("other", [LONG[:72], LONG[:72] + "WRONG tail"], ids=len)
def test_a_password_that_bcrypt_cuts_off_does_not_become_what_somebody_else_typed(
    api: Api, engine: Engine, owner: str, other: str
) -> None:
    email, hashed = api.new_user(), legacy(owner)
    set_hash(engine, email, hashed)

    assert api.token(email, other).status_code == 200  # as in the older system

    assert get_hash(engine, email) == hashed
    assert api.token(email, owner).status_code == 200


def test_a_password_that_bcrypt_does_not_cut_off_gets_a_stronger_hash(api: Api, engine: Engine) -> None:
    email = api.new_user()
    set_hash(engine, email, legacy(LONG[:71]))

    assert api.token(email, LONG[:71]).status_code == 200

    assert get_hash(engine, email).startswith("$bcrypt-sha256$")
    assert api.token(email, LONG[:72]).status_code == 401
