"""Access tokens that siblings verify and cannot sign, and the life of the keys that sign them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key
from jose import jwt
from sqlalchemy import Engine, text

from app.cli.running import OPERATOR
from app.container import Container
from app.errors import DatabaseUnavailable
from app.security import signing_keys
from app.security.jws import sign
from app.security.keys import derive
from app.security.signing_keys import (
    ENCRYPTION_LABEL,
    Undecryptable,
    decrypt,
    encrypt,
    generate,
    signing_key,
    thumbprint,
)
from app.services.keys.making import ADVISORY_LOCK
from app.services.keys.signing import SigningKeys
from app.services.keys.upkeep import KeyUpkeep
from app.telemetry.logs import configure_logging
from tests.support import (
    HEALTH,
    LIVE,
    NOWHERE,
    SECRET_KEY,
    Api,
    Lines,
    MakeDatabase,
    MakeService,
    MovableClock,
    OwnServer,
    at_once,
    error_of,
    eventually,
    make_settings,
    new_email,
    patient,
    until_blocked,
)
from tests.support.keys import JWKS, key_set, kid_of, rows
from tests.test_tokens import access_claims
from tests.test_tokens import sign as sign_with_secret

pytestmark = pytest.mark.usefixtures("keys_are_read_often")
SHARED = "a secret that siblings of the tests have as well"
ES256 = {"jwt_algorithm": "ES256"}
TO_SUCCESSOR = timedelta(seconds=660)
"""From the publication of a key to its first token."""


class Replica(NamedTuple):
    api: Api
    clock: MovableClock


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def es(start_service: MakeService, fresh_database_url: str, clock: MovableClock) -> Api:
    """A service that signs with ES256, whose time stands still until a test moves it."""
    return begun(start_service(database_url=fresh_database_url, clock=clock, **ES256))


def begun(api: Api) -> Api:
    """When it has read its keys: it listens before that."""
    assert api.http.get(LIVE).status_code == 200
    return api


@pytest.fixture(scope="module")
def shared_es(start_lasting_service: MakeService, make_database: MakeDatabase) -> Api:
    """One for all tests that change nothing."""
    return start_lasting_service(database_url=make_database(migrated=True), **ES256)


def token_of(api: Api) -> str:
    token: str = api.log_in()["access_token"]
    return token


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_sibling_verifies_with_the_public_key_alone(
    start_service: MakeService, fresh_database_url: str, algorithm: str
) -> None:
    api = start_service(database_url=fresh_database_url, jwt_algorithm=algorithm)
    pair = api.log_in()
    keys = key_set(api)

    header = jwt.get_unverified_header(pair["access_token"])
    claims = jwt.decode(pair["access_token"], keys[header["kid"]], algorithms=[algorithm])

    assert header == {"alg": algorithm, "typ": "at+jwt", "kid": next(iter(keys))}
    assert claims["iss"] == "kanban-auth"
    assert api.me(pair["access_token"]).json()["id"] == int(claims["sub"])
    assert api.refresh(pair["refresh_token"]).status_code == 200


def test_a_refresh_token_is_signed_with_our_secret_under_every_algorithm(shared_es: Api) -> None:
    pair = shared_es.log_in()

    assert jwt.get_unverified_header(pair["refresh_token"]) == {"alg": "HS256", "typ": "rt+jwt"}


def test_the_key_set_has_public_members_only(shared_es: Api) -> None:
    (key,) = key_set(shared_es).values()

    assert set(key) == {"kty", "crv", "x", "y", "use", "alg", "kid"}
    assert (key["use"], key["alg"], key["kid"]) == ("sig", "ES256", thumbprint(key))


def test_a_thumbprint_is_that_of_rfc_7638() -> None:
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi"
        "FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb"
        "9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls"
        "1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}

    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_the_key_set_may_be_cached_and_is_sent_once(shared_es: Api) -> None:
    first = shared_es.http.get(JWKS)

    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "public, max-age=600"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = shared_es.http.get(JWKS, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["cache-control"] == first.headers["cache-control"]
    assert shared_es.http.get(JWKS, headers={"If-None-Match": '"other"'}).json() == first.json()
    head = shared_es.http.head(JWKS)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])


def test_where_a_secret_is_shared_the_key_set_is_empty(
    start_service: MakeService, fresh_database_url: str
) -> None:
    api = start_service(database_url=fresh_database_url)

    assert key_set(api) == {}


@pytest.mark.usefixtures("es")
def test_no_private_key_is_in_the_table_as_it_is(fresh_database: Engine) -> None:
    (row,) = rows(fresh_database)
    stored = bytes(row.encrypted_private_key)

    private = decrypt(stored, row.kid, derive(SECRET_KEY, ENCRYPTION_LABEL))

    assert load_der_private_key(private, None)
    assert private not in stored
    assert "d" not in row.public_jwk


def test_an_encrypted_key_is_of_its_row_alone() -> None:
    pair, secret = generate("ES256"), b"s" * 32
    encrypted = encrypt(pair.private, pair.kid, secret)

    assert decrypt(encrypted, pair.kid, secret) == pair.private
    for changed, kid, other in [
        (encrypted, "another", secret),
        (encrypted, pair.kid, b"t" * 32),
        (encrypted[:-1], pair.kid, secret),
        (b"", pair.kid, secret),
    ]:
        with pytest.raises(Undecryptable):
            decrypt(changed, kid, other)


def test_the_name_of_a_key_is_never_an_option_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["-begins-like-an-option", "--so-does-this", "this-is-good"])
    monkeypatch.setattr(signing_keys, "thumbprint", lambda _: next(names))

    assert generate("ES256").kid == "this-is-good"


def test_secrets_of_keys_are_not_printed(es: Api) -> None:
    pair = generate("ES256")
    container = es.container

    for each in (pair, container.key_upkeep, container.signing_keys.snapshot, container.tokens):
        assert repr(pair.private)[2:40] not in repr(each)
        assert "PRIVATE" not in repr(each)
        for secret in container._key_secrets:
            assert repr(secret) not in repr(each)


def test_replicas_that_start_at_once_make_one_first_key(
    fresh_database_url: str, fresh_database: Engine
) -> None:
    settings = make_settings(database_url=patient(fresh_database_url), **ES256)
    replicas = [Container(settings) for _ in range(4)]
    held = fresh_database.execution_options(isolation_level="READ COMMITTED")

    with held.connect() as connection, ThreadPoolExecutor(len(replicas)) as threads:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        starts = [threads.submit(each.key_upkeep.run) for each in replicas]
        until_blocked(fresh_database, len(replicas))
        connection.rollback()
        for each in starts:
            each.result()

    (row,) = rows(fresh_database)
    assert {each.signing_keys.signer().kid for each in replicas} == {row.kid}
    for replica in replicas:
        replica.close()


def test_a_key_is_published_before_it_signs_verifies_after_it_and_leaves(
    es: Api, clock: MovableClock
) -> None:
    old = token_of(es)
    clock.move(days=30, seconds=-TO_SUCCESSOR.total_seconds())
    eventually(lambda: len(key_set(es)) == 2)
    before = token_of(es)

    clock.move(seconds=TO_SUCCESSOR.total_seconds())
    after = token_of(es)

    assert kid_of(before) == kid_of(old)
    assert kid_of(after) != kid_of(old)
    assert es.me(before).status_code == 200
    assert es.me(after).status_code == 200
    assert set(key_set(es)) == {kid_of(before), kid_of(after)}
    clock.move(minutes=15, seconds=120)
    assert set(key_set(es)) == {kid_of(after)}
    assert es.refresh(es.log_in()["refresh_token"]).status_code == 200


def test_a_key_that_nobody_replaces_goes_on_signing(
    start_service: MakeService, fresh_database_url: str, fresh_database: Engine, clock: MovableClock
) -> None:
    api = start_service(database_url=fresh_database_url, clock=clock, signing_key_days=0, **ES256)
    first = kid_of(token_of(api))

    clock.move(days=400)
    api.container.key_upkeep.measure()

    assert kid_of(token_of(api)) == first
    assert len(rows(fresh_database)) == 1


@pytest.fixture
def replica(start_service: MakeService, fresh_database_url: str, es: Api) -> Replica:
    """Another one, with a clock of its own that shows the same."""
    clock = MovableClock()
    clock.now = es.container.clock()
    return Replica(begun(start_service(database_url=fresh_database_url, clock=clock, **ES256)), clock)


def test_a_replica_whose_clock_is_ahead_is_believed(es: Api, clock: MovableClock, replica: Replica) -> None:
    es.operator.key_admin.rotate(OPERATOR, at_once=False)
    for each in (clock, replica.clock):
        each.move(seconds=60)
    eventually(lambda: len(key_set(es)) == len(key_set(replica.api)) == 2)
    clock.move(seconds=TO_SUCCESSOR.total_seconds() - 65)
    replica.clock.move(seconds=TO_SUCCESSOR.total_seconds() - 55)

    new, old = token_of(replica.api), token_of(es)

    assert kid_of(new) != kid_of(old)
    assert es.me(new).status_code == 200
    assert replica.api.me(old).status_code == 200


def with_a_key_at_once(es: Api, clock: MovableClock) -> str:
    """A token of a key that nobody else has read."""
    key = es.operator.key_admin.rotate(OPERATOR, at_once=True)
    clock.move(seconds=60)
    eventually(lambda: key.kid in key_set(es))
    token = token_of(es)
    assert kid_of(token) == key.kid
    return token


def test_a_key_that_another_replica_has_just_made_is_looked_for(
    es: Api, clock: MovableClock, replica: Replica
) -> None:
    token = with_a_key_at_once(es, clock)
    assert kid_of(token) not in key_set(replica.api)

    answers = at_once(20, lambda _: replica.api.me(token).status_code)

    assert answers == [200] * 20
    assert kid_of(token) in key_set(replica.api)


def test_keys_that_nobody_knows_cost_one_look_in_ten_seconds(
    es: Api, clock: MovableClock, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, load = [], SigningKeys.load

    def look(self: SigningKeys) -> None:
        looks.append(self)
        load(self)

    monkeypatch.setattr(SigningKeys, "load", look)

    answers = at_once(30, lambda _: error_of(replica.api.me(of_a_stranger())))

    assert answers == [(401, "invalid_token")] * 30
    assert looks.count(replica.api.container.signing_keys) == 1
    token = with_a_key_at_once(es, clock)
    assert error_of(replica.api.me(token)) == (401, "invalid_token")
    replica.clock.move(seconds=10)
    assert replica.api.me(token).status_code == 200


def of_a_stranger() -> str:
    """Signed with a key of another deployment."""
    pair = generate("ES256")
    return sign(access_claims(), signing_key(pair.private, "ES256", pair.kid), "at+jwt")


def test_where_nobody_can_say_whether_a_key_is_ours_the_answer_is_503(
    es: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: object) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(SigningKeys, "load", lost)

    for _ in range(2):
        assert error_of(es.me(of_a_stranger())) == (503, "unavailable")


def test_without_a_database_the_service_starts_and_says_that_it_cannot_sign(
    start_service: MakeService,
) -> None:
    api = start_service(database_url=NOWHERE, **ES256)

    assert api.http.get(LIVE).status_code == 200
    assert api.http.get(HEALTH).status_code == 503
    assert error_of(api.token(new_email())) == (503, "unavailable")
    assert error_of(api.http.get(JWKS)) == (503, "unavailable")
    assert api.metric("app_signing_ready") == 0


@pytest.mark.slow
@pytest.mark.process
def test_when_the_database_comes_so_do_the_keys(start_service: MakeService, own_server: OwnServer) -> None:
    own_server.kill()
    api = start_service(database_url=own_server.url, **ES256)
    assert api.http.get(HEALTH).status_code == 503

    own_server.start_again()

    eventually(lambda: api.http.get(HEALTH).status_code == 200)
    assert api.me(token_of(api)).status_code == 200


def test_a_refresh_that_cannot_be_signed_costs_no_session(
    es: Api, start_service: MakeService, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_token = es.log_in()["refresh_token"]
    monkeypatch.setattr(KeyUpkeep, "run", lambda _: None)
    keyless = start_service(database_url=fresh_database_url, **ES256)

    assert error_of(keyless.refresh(refresh_token)) == (503, "unavailable")

    assert keyless.http.get(HEALTH).status_code == 503
    assert es.refresh(refresh_token).status_code == 200


def spoil(engine: Engine, kid: str) -> None:
    with engine.connect() as connection:
        query = text("UPDATE signing_keys SET encrypted_private_key = '\\x00' WHERE kid = :kid")
        connection.execute(query, {"kid": kid})


def test_a_worker_that_cannot_decrypt_the_keys_verifies_and_replaces_none_by_itself(
    es: Api, start_service: MakeService, fresh_database_url: str, fresh_database: Engine
) -> None:
    token = token_of(es)
    another = {"secret_key": "a secret key of the tests that decrypts nothing"}

    api = start_service(database_url=fresh_database_url, **another, **ES256)

    assert api.me(token).status_code == 200
    assert set(key_set(api)) == {kid_of(token)}
    assert error_of(api.token(new_email())) == (503, "unavailable")
    assert api.http.get(HEALTH).status_code == 503
    assert api.metric("app_signing_ready") == 0
    assert api.metric("app_signing_keys_undecryptable") == 1
    assert len(rows(fresh_database)) == 1


@pytest.fixture
def logged(lines: Lines) -> Lines:
    """Commands and tests of this thread log to it."""
    configure_logging(level="INFO", json=True)
    return lines


@pytest.mark.usefixtures("es")
def test_a_key_that_cannot_be_decrypted_is_told_once(
    fresh_database_url: str, fresh_database: Engine, logged: Lines
) -> None:
    (row,) = rows(fresh_database)
    settings = make_settings(database_url=fresh_database_url, secret_key="decrypts nothing", **ES256)
    container = Container(settings)

    for _ in range(3):
        container.key_upkeep.run()

    assert [each["kid"] for each in logged.events("key.undecryptable")] == [row.kid]
    container.close()


def test_after_the_secret_key_was_lost_one_command_makes_a_key_that_signs(
    es: Api, start_service: MakeService, fresh_database_url: str
) -> None:
    token = token_of(es)
    secret_key = "a secret key of the tests that came too late"
    api = start_service(database_url=fresh_database_url, secret_key=secret_key, **ES256)

    api.operator.key_admin.rotate(OPERATOR, at_once=True)
    eventually(lambda: api.http.get(HEALTH).status_code == 200)

    assert api.me(token_of(api)).status_code == 200
    assert api.me(token).status_code == 200


def test_a_worker_goes_on_with_a_key_that_was_encrypted_anew_with_a_secret_it_does_not_have(
    es: Api, clock: MovableClock, fresh_database: Engine
) -> None:
    token = token_of(es)
    spoil(fresh_database, str(kid_of(token)))

    clock.move(seconds=60)
    eventually(lambda: es.metric("app_signing_keys_undecryptable") == 1)

    assert kid_of(token_of(es)) == kid_of(token)


def test_a_successor_that_cannot_be_decrypted_stops_no_other_key(
    es: Api, clock: MovableClock, fresh_database: Engine
) -> None:
    first = kid_of(token_of(es))
    successor = es.operator.key_admin.rotate(OPERATOR, at_once=False)
    spoil(fresh_database, successor.kid)

    clock.move(seconds=60)
    eventually(lambda: es.metric("app_signing_keys_undecryptable") == 1)
    assert kid_of(token_of(es)) == first
    clock.move(seconds=TO_SUCCESSOR.total_seconds())
    eventually(lambda: len(rows(fresh_database)) == 3)

    clock.move(minutes=20)
    token = token_of(es)

    assert kid_of(token) not in (first, successor.kid)
    assert es.me(token).status_code == 200


def test_a_broken_row_stops_nothing(es: Api, clock: MovableClock, fresh_database: Engine) -> None:
    broken = es.operator.key_admin.rotate(OPERATOR, at_once=False)
    with fresh_database.connect() as connection:
        query = text('UPDATE signing_keys SET public_jwk = \'{"kty": "EC"}\' WHERE kid = :kid')
        connection.execute(query, {"kid": broken.kid})

    clock.move(seconds=60)
    eventually(lambda: es.container.signing_keys.tried_at == clock())

    assert es.me(token_of(es)).status_code == 200
    assert broken.kid not in key_set(es)


def test_a_secret_that_is_shared_is_accepted_beside_the_keys_while_it_is_set(
    start_service: MakeService, fresh_database_url: str
) -> None:
    bridge = start_service(database_url=fresh_database_url, jwt_secret=SHARED, **ES256)
    apart = start_service(database_url=fresh_database_url, **ES256)
    user_id = str(bridge.me(token_of(bridge)).json()["id"])
    claims = access_claims(sub=user_id)

    assert bridge.me(sign_with_secret(claims, SHARED)).status_code == 200
    for secret in (SHARED, SECRET_KEY):
        assert error_of(apart.me(sign_with_secret(claims, secret))) == (401, "invalid_token")
    assert error_of(bridge.me(sign_with_secret(claims, SECRET_KEY))) == (401, "invalid_token")
    assert error_of(bridge.me(sign_with_secret(claims, SHARED, "HS512"))) == (401, "invalid_token")


def test_tokens_are_counted_by_algorithm_and_by_what_their_key_is_for(
    start_service: MakeService, fresh_database_url: str, clock: MovableClock
) -> None:
    api = start_service(database_url=fresh_database_url, clock=clock, jwt_secret=SHARED, **ES256)
    token = token_of(api)
    user_id = str(api.me(token).json()["id"])
    api.me(sign_with_secret(access_claims(sub=user_id), SHARED))

    assert api.metric("app_access_tokens_issued_total", algorithm="ES256") == 1
    assert api.metric("app_access_tokens_accepted_total", key="signing") == 1
    assert api.metric("app_access_tokens_accepted_total", key="shared_secret") == 1
    clock.move(days=2)
    eventually(lambda: api.metric("app_signing_key_age_seconds") == 2 * 86400)
    assert api.metric("app_signing_key_age_limit_seconds") == 30 * 86400
    assert api.metric("app_signing_keys", state="signing") == 1
    assert api.metric("app_signing_ready") == 1


@pytest.mark.parametrize(
    ("issuer", "status"),
    [
        ("https://auth.example.com", 200),
        ("https://auth.example.com/", 200),
        ("kanban-auth", 404),
        ("http://auth.example.com", 404),
        ("https://auth.example.com?tenant=1", 404),
        ("https://[", 404),
        ("https://a b", 404),
        ("https://auth.example.com/a b", 404),
        ("https://auth.example.com/%zz", 404),
        ("https://auth.example.com\\a", 404),
        ("https://auth.example.com:99999", 404),
        ("https:///auth.example.com", 404),
        ("https:auth.example.com", 404),
        ("https://\u00e4.example.com", 404),
    ],
)
def test_the_metadata_of_the_server_is_that_of_its_issuer(
    start_service: MakeService, issuer: str, status: int
) -> None:
    api = start_service(jwt_issuer=issuer)

    response = api.http.get("/.well-known/oauth-authorization-server")

    assert response.status_code == status
    if status == 200:
        metadata = response.json()
        assert metadata["issuer"] == jwt.get_unverified_claims(token_of(api))["iss"] == issuer
        assert metadata["jwks_uri"] == "https://auth.example.com/.well-known/jwks.json"
        assert metadata["token_endpoint"] == "https://auth.example.com/api/v1/token"
        assert metadata["response_types_supported"] == []
