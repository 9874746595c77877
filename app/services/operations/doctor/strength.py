"""Settings that weaken the service. Production refuses the worst of them at its start."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from app.config import Settings
from app.security.common_passwords import is_common
from app.security.keys import SHARED_ALGORITHMS
from app.services.operations.doctor.findings import Finding, fault, ok, warning
from app.setting_groups import MIN_METRICS_TOKEN, MIN_PASSWORD_LENGTH, hmac_bytes
from app.setting_types import MIN_DISTINCT_BYTES, MIN_SECRET_BYTES

ADVISED_ROUNDS: Final = 12
_MOST_GUESSES_A_DAY: Final = 20_000


def check_strength(settings: Settings) -> Iterator[Finding]:
    yield from _secrets(settings)
    yield _signing(settings)
    yield _siblings(settings)
    yield _hashing(settings.bcrypt_rounds)
    yield _passwords(settings.password_min_length)
    yield _blocklist(on=settings.password_blocklist)
    yield _throttles(settings)
    if settings.metrics_token is not None:
        yield _scraping(len(settings.metrics_token.get_secret_value()))


def _secrets(settings: Settings) -> Iterator[Finding]:
    first, *fallbacks = settings.secret_keys
    yield _secret("SECRET_KEY", first)
    for number, fallback in enumerate(fallbacks, 1):
        yield _secret(f"SECRET_KEY_FALLBACKS, number {number},", fallback)
    if settings.shared_secret is not None:
        yield _secret("JWT_SECRET", settings.shared_secret)


def _secret(name: str, value: str) -> Finding:
    secret = value.encode()
    if len(secret) < MIN_SECRET_BYTES:
        return warning("secret", f"{name} has {len(secret)} bytes of {MIN_SECRET_BYTES}")
    if len(set(secret)) < MIN_DISTINCT_BYTES:
        return warning("secret", f"{name} has few different characters; try: openssl rand -hex 32")
    return ok("secret", f"{name} has {len(secret)} bytes")


def _signing(settings: Settings) -> Finding:
    algorithm, needed = settings.jwt_algorithm, hmac_bytes(settings.jwt_algorithm)
    if not needed:
        return ok("signing", f"{algorithm}, with keys of our own")
    if len((settings.shared_secret or settings.secret_keys[0]).encode()) < needed:
        return warning("signing", f"{algorithm} needs a secret of {needed} bytes (RFC 7518 §3.2)")
    return ok("signing", f"{algorithm}, with a key that is long enough")


def _siblings(settings: Settings) -> Finding:
    """What those who verify access tokens can do beyond that."""
    shared, secrets = settings.shared_secret, settings.secret_keys
    if shared is None and settings.jwt_algorithm not in SHARED_ALGORITHMS:
        return ok("siblings", "verify with our public keys, and sign nothing")
    risk = ok if settings.development else warning
    if shared is None or shared == secrets[0]:
        return risk("siblings", "hold SECRET_KEY: they can sign any token; set JWT_SECRET")
    if shared in secrets:
        said = "hold a fallback of SECRET_KEY: they can sign refresh tokens until it is removed"
        return risk("siblings", said)
    return ok("siblings", "hold JWT_SECRET: they can sign access tokens, and no others")


def _hashing(rounds: int) -> Finding:
    if rounds < ADVISED_ROUNDS:
        times = 2 ** (ADVISED_ROUNDS - rounds)
        return warning(
            "hashing", f"BCRYPT_ROUNDS is {rounds}: a stolen hash is {times} times cheaper to guess"
        )
    return ok("hashing", f"BCRYPT_ROUNDS is {rounds}")


def _passwords(least: int) -> Finding:
    if least < MIN_PASSWORD_LENGTH:
        return warning(
            "passwords", f"PASSWORD_MIN_LENGTH is {least} of {MIN_PASSWORD_LENGTH} (NIST SP 800-63B)"
        )
    return ok("passwords", f"of {least} characters at least")


def _blocklist(*, on: bool) -> Finding:
    if not on:
        return warning("blocklist", "PASSWORD_BLOCKLIST is off: common passwords are accepted")
    try:
        is_common("")
    except OSError as error:
        return fault("blocklist", f"cannot be read, and nobody can choose a password: {error}")
    return ok("blocklist", "common passwords are refused")


def _throttles(settings: Settings) -> Finding:
    if not settings.throttles:
        return warning("throttles", "THROTTLES is off: passwords can be guessed as fast as they are hashed")
    rate = settings.throttle_login_account
    guesses = rate.burst + timedelta(days=1) // rate.period
    if guesses > _MOST_GUESSES_A_DAY:
        said = f"THROTTLE_LOGIN_ACCOUNT lets {guesses} passwords of an account be tried in a day"
        return warning("throttles", said)
    return ok("throttles", f"on; {guesses} passwords of an account can be tried in a day")


def _scraping(length: int) -> Finding:
    if length < MIN_METRICS_TOKEN:
        return warning("scraping", f"METRICS_TOKEN has {length} characters of {MIN_METRICS_TOKEN}")
    return ok("scraping", f"/metrics wants a token of {length} characters")
