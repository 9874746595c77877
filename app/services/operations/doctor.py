"""Checks a deployment: settings, secret, database, cookies and metrics."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import text

from app.clock import Clock
from app.config import Settings
from app.database.engine import POOL_SIZE
from app.database.failures import describe
from app.database.transactions import Database
from app.errors import DatabaseUnavailable
from app.security.keys import SHARED_ALGORITHMS
from app.services.operations.health import HealthService, Schema
from app.setting_types import MIN_SECRET_BYTES
from app.telemetry.workers import FOLDER_VARIABLE

OLDEST_SERVER: Final = 14
MAX_SKEW_SECONDS: Final = 2
_MIN_DISTINCT_BYTES: Final = 10
_SERVER = text(
    "SELECT current_setting('server_version_num')::int / 10000 AS major,"
    " current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int AS connections,"
    " extract(epoch FROM clock_timestamp())::float AS now"
)


class Finding(NamedTuple):
    verdict: Literal["ok", "warning", "fault"]
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class DoctorService:
    settings: Settings
    db: Database
    health: HealthService
    clock: Clock

    def examine(self) -> Iterator[Finding]:
        yield Finding("ok", "settings", f"usable; ENVIRONMENT is {self.settings.environment}")
        yield from self._secrets()
        yield self._siblings()
        yield from self._database()
        yield from self._cookies()
        yield self._metrics_folder()

    def _secrets(self) -> Iterator[Finding]:
        first, *fallbacks = self.settings.secret_keys
        yield self._secret("SECRET_KEY", first)
        for number, fallback in enumerate(fallbacks, 1):
            yield self._secret(f"SECRET_KEY_FALLBACKS, number {number},", fallback)
        if self.settings.shared_secret is not None:
            yield self._secret("JWT_SECRET", self.settings.shared_secret)

    def _secret(self, name: str, value: str) -> Finding:
        secret = value.encode()
        weak: Literal["warning", "fault"] = "warning" if self.settings.development else "fault"
        if len(secret) < MIN_SECRET_BYTES:
            return Finding(weak, "secret", f"{name} has {len(secret)} bytes of {MIN_SECRET_BYTES}")
        if len(set(secret)) < _MIN_DISTINCT_BYTES:
            return Finding(weak, "secret", f"{name} has few different characters; try: openssl rand -hex 32")
        return Finding("ok", "secret", f"{name} has {len(secret)} bytes")

    def _siblings(self) -> Finding:
        """What those who verify access tokens can do beyond that."""
        shared, secrets = self.settings.shared_secret, self.settings.secret_keys
        if shared is None and self.settings.jwt_algorithm not in SHARED_ALGORITHMS:
            return Finding("ok", "siblings", "verify with our public keys, and sign nothing")
        risk: Literal["ok", "warning"] = "ok" if self.settings.development else "warning"
        if shared is None or shared == secrets[0]:
            return Finding(risk, "siblings", "hold SECRET_KEY: they can sign any token; set JWT_SECRET")
        if shared in secrets:
            said = "hold a fallback of SECRET_KEY: they can sign refresh tokens until it is removed"
            return Finding(risk, "siblings", said)
        return Finding("ok", "siblings", "hold JWT_SECRET: they can sign access tokens, and no others")

    def _database(self) -> Iterator[Finding]:
        before = self.clock().timestamp()
        try:
            server = self.db.execute(_SERVER)[0]
            after = self.clock().timestamp()
            schema = self.health.schema()
        except DatabaseUnavailable as error:
            yield Finding("fault", "database", f"does not answer: {describe(error)}")
            return
        old = server.major < OLDEST_SERVER
        known = f"PostgreSQL {server.major}"
        yield Finding("fault" if old else "ok", "database", f"answers; {known}" + " is too old" * old)
        yield self._schema(schema)
        yield self._skew(server.now - (before + after) / 2)
        yield self._connections(server.connections)

    def _schema(self, schema: Schema) -> Finding:
        if schema.is_behind:
            return Finding("fault", "schema", f"at {schema.revision or 'nothing'}; run: alembic upgrade head")
        if problem := self.health.problem(schema):
            return Finding("fault", "schema", problem)
        if schema.is_newer:
            return Finding("warning", "schema", f"at {schema.revision}, made by a newer release")
        return Finding("ok", "schema", f"at the code's newest revision, {schema.revision}")

    def _skew(self, seconds: float) -> Finding:
        verdict: Literal["ok", "warning"] = "warning" if abs(seconds) > MAX_SKEW_SECONDS else "ok"
        return Finding(verdict, "clock", f"the database's is {seconds:+.1f} s from ours")

    def _connections(self, allowed: int) -> Finding:
        workers = self.settings.web_concurrency
        needed = workers * POOL_SIZE
        said = f"{workers} worker(s) take up to {needed} of the {allowed} that the server allows"
        return Finding("fault" if needed > allowed else "ok", "connections", said)

    def _cookies(self) -> Iterator[Finding]:
        origins = self.settings.cors_origins
        if not self.settings.auth_cookies:
            yield Finding("ok", "cookies", "off; tokens travel in bodies and headers")
            return
        if not origins:
            yield Finding("ok", "cookies", "for our own origin alone, as CORS_ORIGINS is empty")
            return
        plain = [origin for origin in origins if urlsplit(origin).scheme == "http"]
        sites = {_site(origin) for origin in origins}
        if plain and not self.settings.development:
            said = f"are Secure, so that a browser sends none to {', '.join(plain)}"
            yield Finding("fault", "cookies", said)
        if len(sites) > 1:
            said = f"are SameSite=Lax, and CORS_ORIGINS is of several sites: {', '.join(sorted(sites))}"
            yield Finding("warning", "cookies", said)
        if not (plain and not self.settings.development) and len(sites) == 1:
            yield Finding("ok", "cookies", f"for {', '.join(origins)}, where we are of the same site")

    def _metrics_folder(self) -> Finding:
        if self.settings.web_concurrency == 1:
            return Finding("ok", "metrics", "one worker needs no shared folder")
        try:
            folder = Path(os.environ.get(FOLDER_VARIABLE) or tempfile.gettempdir())
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            return Finding("fault", "metrics", f"the workers cannot share a folder: {error}")
        return Finding("ok", "metrics", f"the workers share a folder in {folder}")


def _site(origin: str) -> str:
    """Approximates the registrable domain; an exact result needs the Public Suffix List."""
    host = urlsplit(origin).hostname or ""
    return ".".join(host.split(".")[-2:])
