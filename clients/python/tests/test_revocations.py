"""Who signed out is refused, whatever happens to the stream that tells of it."""

import threading
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from fake_server import JWKS, PAGES, STREAM, FakeServer, eventually
from kanban_auth_verify import AccessClaims, TokenExpired, TokenRevoked, Unavailable, Verifier
from kanban_auth_verify.event_stream import HEARTBEAT, Event, read_events
from kanban_auth_verify.feed import Timing
from kanban_auth_verify.revocation_list import Revocation, RevocationList
from kanban_auth_verify.verifier import MAX_SILENCE_SECONDS

PATIENT = Timing(heartbeat_timeout=60, poll=60, first_retry=0.01, last_retry=0.05)
SLOW_STREAMS = Timing(heartbeat_timeout=0.3, poll=0.05, first_retry=0.01, last_stream_retry=60)


def is_refused(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except TokenRevoked:
        return True
    return False


def is_to_refresh(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except TokenExpired:
        return True
    return False


def new_session(server: FakeServer) -> tuple[UUID, str]:
    session = uuid4()
    return session, server.auth.issue_test_token(session_id=session)


def is_streaming(server: FakeServer) -> bool:
    return bool(server.auth._readers)


def test_a_session_that_ends_is_refused_through_the_stream(server: FakeServer) -> None:
    (session, token), (_, other) = new_session(server), new_session(server)
    with server.verifier(timing=PATIENT) as verifier:
        eventually(lambda: is_streaming(server))
        assert not is_refused(verifier, token)

        server.auth.end_session(session)

        eventually(lambda: is_refused(verifier, token))
        assert not is_refused(verifier, other)


def test_a_session_that_ended_before_the_start_is_refused_at_once(server: FakeServer) -> None:
    session, token = new_session(server)
    server.auth.end_session(session)

    with server.verifier() as verifier:
        assert is_refused(verifier, token)


def test_the_first_token_waits_for_what_is_known_already(server: FakeServer) -> None:
    session, token = new_session(server)
    server.auth.end_session(session)
    verifier = server.verifier()

    assert is_refused(verifier, token)
    verifier.close()


def test_a_user_who_is_disabled_is_refused_with_older_tokens_alone(server: FakeServer) -> None:
    older, of_another = server.auth.issue_test_token(7), server.auth.issue_test_token(8)
    with server.verifier() as verifier:
        server.auth.end_sessions_of(7)
        eventually(lambda: is_refused(verifier, older))

        server.auth.clock.move(1)

        assert not is_refused(verifier, server.auth.issue_test_token(7))
        assert not is_refused(verifier, of_another)


def test_a_user_whose_role_has_changed_is_refused_with_tokens_of_another_role_alone(
    server: FakeServer,
) -> None:
    user, admin = (server.auth.issue_test_token(7, role=role) for role in ("user", "admin"))
    with server.verifier() as verifier:
        server.auth.change_role(7, "user")
        eventually(lambda: is_to_refresh(verifier, admin))
        assert verifier.verify(user).role == "user"

        server.auth.change_role(7, "admin")

        eventually(lambda: is_to_refresh(verifier, user))
        assert verifier.verify(admin).role == "admin"


def test_a_refresh_is_no_help_to_a_disabled_user_whose_role_changed_too(server: FakeServer) -> None:
    admin = server.auth.issue_test_token(7, role="admin")
    server.auth.change_role(7, "user")
    server.auth.end_sessions_of(7)

    with server.verifier() as verifier:
        assert is_refused(verifier, admin)


def test_what_was_said_while_the_stream_was_away_is_not_lost(server: FakeServer) -> None:
    sessions = [new_session(server) for _ in range(5)]
    with server.verifier() as verifier:
        eventually(lambda: is_streaming(server))
        server.stop()
        for session, _ in sessions:
            server.auth.end_session(session)
        server.start()

        eventually(lambda: all(is_refused(verifier, token) for _, token in sessions))


def test_a_stream_that_has_gone_silent_is_replaced(server: FakeServer) -> None:
    session, token = new_session(server)
    with server.verifier() as verifier:
        eventually(lambda: is_streaming(server))
        server.is_mute = True
        server.auth.end_session(session)

        eventually(lambda: is_refused(verifier, token))


@pytest.mark.parametrize("status", [404, 406, 500])
def test_without_a_stream_the_pages_are_asked_for(server: FakeServer, status: int) -> None:
    server.faults[STREAM] = status
    session, token = new_session(server)
    with server.verifier() as verifier:
        server.auth.end_session(session)

        eventually(lambda: is_refused(verifier, token))


def test_a_proxy_that_keeps_the_stream_to_itself_does_not_stop_the_pages(server: FakeServer) -> None:
    server.is_mute = True
    with server.verifier(timing=SLOW_STREAMS) as verifier:
        for _ in range(3):
            session, token = new_session(server)
            server.auth.end_session(session)
            eventually(partial(is_refused, verifier, token))

        eventually(lambda: server.asked[PAGES] > 2 * server.asked[STREAM])


@pytest.mark.parametrize("status", [400, 410])
def test_a_cursor_that_the_service_refuses_begins_again(server: FakeServer, status: int) -> None:
    (first, one), (second, other) = new_session(server), new_session(server)
    server.auth.end_session(first)
    with server.verifier() as verifier:
        eventually(lambda: is_streaming(server))
        server.stop()
        server.refused_cursors["1"] = status
        server.auth.end_session(second)
        server.start()

        eventually(lambda: is_refused(verifier, other))
        assert is_refused(verifier, one)


def test_an_item_that_nobody_understands_does_not_hide_the_next(server: FakeServer) -> None:
    session, token = new_session(server)
    with server.verifier() as verifier:
        server.auth.publish(sid="not a uuid")
        server.auth.publish(sub="all", issued_before=0)
        server.auth.publish(planet="earth")
        server.auth.end_session(session)

        eventually(lambda: is_refused(verifier, token))


def test_fail_open_believes_good_tokens_while_nothing_is_heard(server: FakeServer) -> None:
    session, ended = new_session(server)
    with server.verifier() as verifier:
        server.auth.end_session(session)
        eventually(lambda: is_refused(verifier, ended))
        server.stop()
        server.auth.clock.move(MAX_SILENCE_SECONDS + 1)

        assert not is_refused(verifier, server.auth.issue_test_token())
        assert is_refused(verifier, ended)


def test_fail_closed_answers_503_while_nothing_is_heard_and_recovers(server: FakeServer) -> None:
    with server.verifier(when_silent="fail_closed") as verifier:
        token = server.auth.issue_test_token()
        assert not is_refused(verifier, token)
        server.stop()
        server.auth.clock.move(MAX_SILENCE_SECONDS + 1)
        with pytest.raises(Unavailable, match="silent") as refused:
            verifier.verify(token)
        assert refused.value.status == 503

        server.start()

        eventually(lambda: accepts(verifier, token))


def accepts(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except Unavailable:
        return False
    return True


def test_fail_closed_believes_nobody_before_it_has_read_everything(server: FakeServer) -> None:
    server.faults[PAGES] = 503
    with server.verifier(when_silent="fail_closed") as verifier:
        token = server.auth.issue_test_token()
        with pytest.raises(Unavailable):
            verifier.verify(token)

        server.faults.clear()

        eventually(lambda: accepts(verifier, token))


def test_heartbeats_alone_keep_fail_closed_open(server: FakeServer) -> None:
    with server.verifier(when_silent="fail_closed", timing=PATIENT) as verifier:
        eventually(lambda: is_streaming(server))
        asked = server.asked[PAGES]
        server.auth.clock.move(MAX_SILENCE_SECONDS + 1)

        assert eventually(lambda: accepts(verifier, server.auth.issue_test_token()))
        assert server.asked[PAGES] == asked


@pytest.mark.parametrize("when_silent", ["fail-closed", "closed", "", None])
def test_what_to_do_in_silence_is_spelled_right_or_refused(when_silent: Any) -> None:
    with pytest.raises(ValueError, match="fail_open or fail_closed"):
        Verifier("http://auth.test", when_silent=when_silent)


def test_a_wrong_service_token_is_no_reason_to_refuse_users(server: FakeServer) -> None:
    with server.verifier(service_token="kas_wrong") as verifier:
        assert verifier.verify(server.auth.issue_test_token(5)).user_id == 5


def test_without_a_service_token_nobody_is_asked(server: FakeServer) -> None:
    with server.verifier(service_token=None) as verifier:
        verifier.verify(server.auth.issue_test_token())

    assert set(server.asked) == {JWKS}


def test_close_ends_the_threads_at_once(server: FakeServer) -> None:
    before = set(threading.enumerate())
    verifier = server.verifier(timing=PATIENT)
    verifier.start()
    eventually(lambda: is_streaming(server))
    (feed,) = [one for one in set(threading.enumerate()) - before if one.name == "kanban-auth-revocations"]

    verifier.close()

    eventually(lambda: not feed.is_alive())


def test_many_pages_are_read_to_the_end(server: FakeServer) -> None:
    sessions = [new_session(server) for _ in range(7)]
    for session, _ in sessions:
        server.auth.end_session(session)
    server.auth.page_size = 2

    with server.verifier() as verifier:
        assert all(is_refused(verifier, token) for _, token in sessions)
    assert server.asked[PAGES] >= 4


def claims(session: UUID | None = None, user: int = 1, issued_at: int = 100, expires_at: int = 1000) -> Any:
    return AccessClaims(user, "user", session, "jti", issued_at, expires_at)


def ended(session: UUID, expires_at: int) -> Revocation:
    return Revocation(session, None, None, None, expires_at)


def test_what_has_expired_is_forgotten_after_the_leeway() -> None:
    revocations, session = RevocationList(), uuid4()
    revocations.add(ended(session, 1000))

    revocations.forget_expired(1005)
    assert isinstance(revocations.refusal_of(claims(session)), TokenRevoked)
    revocations.forget_expired(1006)
    assert len(revocations) == 0


def test_the_list_is_bounded_and_who_made_room_is_to_refresh() -> None:
    revocations = RevocationList(max_entries=100)
    sessions = [uuid4() for _ in range(1000)]
    for number, session in enumerate(sessions):
        revocations.add(ended(session, 1000 + number))
        assert len(revocations) <= 100

    refusals = [
        type(revocations.refusal_of(claims(one, expires_at=1000 + at))) for at, one in enumerate(sessions)
    ]
    forgotten = len(sessions) - len(revocations)
    assert refusals == [TokenExpired] * forgotten + [TokenRevoked] * len(revocations)
    assert revocations.refusal_of(claims(uuid4(), expires_at=2000)) is None


def test_the_latest_word_about_a_user_counts_in_whatever_order_it_comes() -> None:
    revocations = RevocationList()
    revocations.add(Revocation(None, 1, 200, None, 2000))
    revocations.add(Revocation(None, 1, 100, None, 1000))
    revocations.forget_expired(1500)

    assert isinstance(revocations.refusal_of(claims(issued_at=200)), TokenRevoked)
    assert revocations.refusal_of(claims(issued_at=201)) is None


def test_events_are_read_in_whatever_pieces_they_come() -> None:
    text = b": ping\n\nevent: revocation\r\nid: 7\r\ndata: {}\r\n\r\nretry: 100\n\n:\n"
    wanted = [HEARTBEAT, Event("revocation", "{}", "7"), Event("message"), HEARTBEAT]

    for size in range(1, len(text) + 1):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert list(read_events(pieces)) == wanted


def test_a_line_without_an_end_is_not_kept() -> None:
    with pytest.raises(ValueError, match="without an end"):
        list(read_events(b"x" * 1024 for _ in range(1000)))
