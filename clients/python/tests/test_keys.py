"""Where the keys come from, and what happens while they do not come."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fake_server import JWKS, FakeServer, eventually
from kanban_auth_verify import InvalidToken, Unavailable, Verifier
from kanban_auth_verify.key_cache import COOL_DOWN_SECONDS, MAX_STALE_SECONDS
from kanban_auth_verify.testing import FakeAuthService

SECRET = "shared with every sibling, 32 bytes at least"


def with_made_up_kid() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode({}, key, "ES256", headers={"typ": "at+jwt", "kid": str(uuid4())})


def refuses(verifier: Verifier, token: str) -> bool:
    with pytest.raises(InvalidToken):
        verifier.verify(token)
    return True


def test_a_new_key_is_fetched_when_its_first_token_comes(server: FakeServer) -> None:
    with server.verifier() as verifier:
        old = server.auth.issue_test_token(1)
        assert verifier.verify(old).user_id == 1

        server.auth.rotate_key()

        assert verifier.verify(server.auth.issue_test_token(2)).user_id == 2
        assert verifier.verify(old).user_id == 1


def test_a_flood_of_made_up_kids_makes_one_fetch_in_thirty_seconds(server: FakeServer) -> None:
    with server.verifier() as verifier:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda _: refuses(verifier, with_made_up_kid()), range(100)))
        assert server.asked[JWKS] == 2  # the first is that of the start

        server.auth.clock.move(COOL_DOWN_SECONDS - 5)
        refuses(verifier, with_made_up_kid())
        assert server.asked[JWKS] == 2

        server.auth.clock.move(6)
        refuses(verifier, with_made_up_kid())
        assert server.asked[JWKS] == 3


def test_a_known_key_needs_no_fetch_during_a_flood(server: FakeServer) -> None:
    with server.verifier() as verifier:
        token = server.auth.issue_test_token()
        refuses(verifier, with_made_up_kid())
        server.stop()
        refuses(verifier, with_made_up_kid())

        assert verifier.verify(token).user_id == 1


def test_a_service_that_is_down_at_the_start_is_waited_for(server: FakeServer) -> None:
    token = server.auth.issue_test_token()
    server.stop()
    with server.verifier() as verifier:
        with pytest.raises(Unavailable):
            verifier.verify(token)

        server.start()
        server.auth.clock.move(60)

        assert verifier.verify(server.auth.issue_test_token()).user_id == 1


def test_known_keys_outlast_a_service_that_is_down_for_a_day(server: FakeServer) -> None:
    with server.verifier(service_token=None) as verifier:
        server.stop()
        for _ in range(10):
            server.auth.clock.move(MAX_STALE_SECONDS / 10)
            assert verifier.verify(server.auth.issue_test_token()).user_id == 1

        server.auth.clock.move(700)

        with pytest.raises(Unavailable):
            verifier.verify(server.auth.issue_test_token())


def test_old_keys_are_fetched_again_beside_the_requests(server: FakeServer) -> None:
    with server.verifier() as verifier:
        server.auth.clock.move(601)
        verifier.verify(server.auth.issue_test_token())

        eventually(lambda: server.asked[JWKS] == 2)


def test_a_revoked_key_is_not_used_once_more_after_a_long_pause(server: FakeServer) -> None:
    with server.verifier() as verifier:
        token = server.auth.issue_test_token(lifetime=36_000)
        verifier.verify(token)
        server.auth._private_keys.clear()
        server.auth.clock.move(3600)

        refuses(verifier, token)


def test_what_the_service_says_of_its_keys_age_is_kept_within_an_hour(server: FakeServer) -> None:
    server.headers["Cache-Control"] = "public, max-age=999999"
    with server.verifier() as verifier:
        server.auth.clock.move(3601)
        verifier.verify(server.auth.issue_test_token())

        eventually(lambda: server.asked[JWKS] == 2)


@pytest.mark.parametrize("status", [204, 301, 404, 500])
def test_an_answer_that_is_no_jwks_replaces_no_key(server: FakeServer, status: int) -> None:
    with server.verifier() as verifier:
        server.faults[JWKS] = status
        refuses(verifier, with_made_up_kid())

        assert verifier.verify(server.auth.issue_test_token()).user_id == 1


def test_the_bridge_takes_both_kinds_of_tokens_and_needs_no_jwks_for_the_old_one(server: FakeServer) -> None:
    server.faults[JWKS] = 404
    with server.verifier(shared_secret=SECRET) as verifier:
        claims = jwt.decode(server.auth.issue_test_token(7), options={"verify_signature": False})
        shared = jwt.encode(claims, SECRET, "HS256", headers={"typ": "at+jwt"})
        assert verifier.verify(shared).user_id == 7

        server.faults.clear()
        server.auth.clock.move(60)

        assert verifier.verify(server.auth.issue_test_token(8)).user_id == 8
        assert verifier.verify(shared).user_id == 7


def test_a_short_secret_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Verifier("http://auth.test", shared_secret="short")


def test_the_secrets_are_not_printed(server: FakeServer) -> None:
    verifier = server.verifier(shared_secret=SECRET)

    assert SECRET not in repr(verifier)
    assert SECRET not in repr(verifier._shared_secret)
    assert server.auth.service_token not in repr(verifier)


def test_many_threads_share_a_verifier_and_its_first_fetch(server: FakeServer) -> None:
    verifier = server.verifier()
    gate = threading.Barrier(16)

    def verify(number: int) -> int:
        token = server.auth.issue_test_token(number)
        gate.wait()
        return verifier.verify(token).user_id

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(verify, range(1, 17))) == list(range(1, 17))

    assert server.asked[JWKS] == 1
    verifier.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_worker_connects_by_itself(server: FakeServer) -> None:
    with server.verifier() as verifier:
        session = uuid4()
        token, ended = server.auth.issue_test_token(3), server.auth.issue_test_token(session_id=session)
        verifier.verify(ended)
        with verifier._lock:  # held by some thread of the parent at that very moment
            child = os.fork()
            if child == 0:
                os._exit(_child(verifier, token, ended))
        server.auth.end_session(session)

        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        assert verifier.verify(token).user_id == 3


def _child(verifier: Verifier, token: str, ended: str) -> int:
    def is_refused() -> bool:
        try:
            verifier.verify(ended)
        except Exception:  # noqa: BLE001 — the exit status tells all
            return True
        return False

    if verifier.verify(token).user_id != 3:
        return 1
    eventually(is_refused)
    return 0


def test_a_verifier_that_was_closed_connects_again_when_it_is_used() -> None:
    auth = FakeAuthService()
    verifier = auth.verifier()
    verifier.verify(auth.issue_test_token())
    verifier.close()

    assert verifier.verify(auth.issue_test_token(2)).user_id == 2
    verifier.close()
