"""The database as the service finds it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, text

from app.clock import Clock
from app.config import Settings
from app.database.engine import APPLICATION, SERVER_TIMEOUTS
from app.database.failures import describe
from app.database.transactions import Database
from app.errors import DatabaseUnavailable
from app.services.operations.doctor.findings import Finding, fault, ok, warning
from app.services.operations.health import HealthService, Schema

OLDEST_SERVER: Final = 14
MAX_SKEW_SECONDS: Final = 2
LISTENING_CONNECTIONS: Final = 1
"""Of each worker, while siblings listen to it."""

_SERVER = text(
    "SELECT current_setting('server_version_num')::int / 10000 AS major,"
    " current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int AS connections,"
    " current_setting('transaction_read_only') = 'on' AS read_only,"
    " current_setting('statement_timeout') AS statement_timeout,"
    " current_setting('lock_timeout') AS lock_timeout,"
    " (SELECT count(DISTINCT client_addr) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = :application) AS addresses,"
    " extract(epoch FROM clock_timestamp())::float AS now"
).bindparams(application=APPLICATION)


@dataclass(frozen=True, slots=True)
class DatabaseChecks:
    settings: Settings
    db: Database
    health: HealthService
    clock: Clock
    examine_tables: Callable[[], Iterator[Finding]]

    def examine(self) -> Iterator[Finding]:
        before = self.clock().timestamp()
        try:
            server = self.db.execute(_SERVER)[0]
            after = self.clock().timestamp()
            schema, pooled = self.health.schema(), self.db.is_pooled
        except DatabaseUnavailable as error:
            yield fault("database", f"does not answer: {describe(error)}")
            return
        yield _version(server.major)
        yield _writes(server)
        yield self._schema(schema)
        yield _timeouts(server)
        yield _skew(server.now - (before + after) / 2)
        yield self._connections(server, pooled=pooled)
        if not (schema.is_behind or schema.missing):
            yield from self.examine_tables()

    def _schema(self, schema: Schema) -> Finding:
        if schema.is_behind:
            return fault("schema", f"at {schema.revision or 'nothing'}; run: alembic upgrade head")
        if schema.missing and (problem := self.health.problem(schema)):
            return fault("schema", problem)
        if schema.is_newer:
            return warning("schema", f"at {schema.revision}, made by a newer release")
        return ok("schema", f"at the code's newest revision, {schema.revision}")

    def _connections(self, server: Row[Any], *, pooled: bool) -> Finding:
        """Instances are told apart by their addresses; one that does not run now is not counted."""
        workers, each = self.settings.web_concurrency, self.settings.database_pool_size
        if pooled:
            said = f"{workers} worker(s) take up to {workers * each} of the pooler's, whose limits count"
            return ok("connections", said)
        instances = max(server.addresses, 1)
        needed = instances * workers * (each + LISTENING_CONNECTIONS)
        said = (
            f"{instances} address(es) with {workers} worker(s) each take up to {needed}"
            f" of the {server.connections} that the server allows"
        )
        return fault("connections", said) if needed > server.connections else ok("connections", said)


def _version(major: int) -> Finding:
    if major < OLDEST_SERVER:
        return fault("database", f"answers; PostgreSQL {major} is too old")
    return ok("database", f"answers; PostgreSQL {major}")


def _writes(server: Row[Any]) -> Finding:
    if server.read_only:
        said = "read-only: a standby, or default_transaction_read_only is on; nobody can log in"
        return fault("writes", said)
    return ok("writes", "accepted")


def _timeouts(server: Row[Any]) -> Finding:
    missing = [name for name in SERVER_TIMEOUTS if getattr(server, name) == "0"]
    if missing:
        return fault("timeouts", f"no {' and no '.join(missing)}: the options of DATABASE_URL say so")
    given = ", ".join(f"{name} {getattr(server, name)}" for name in SERVER_TIMEOUTS)
    return ok("timeouts", given)


def _skew(seconds: float) -> Finding:
    said = f"the database's is {seconds:+.1f} s from ours"
    return warning("clock", said) if abs(seconds) > MAX_SKEW_SECONDS else ok("clock", said)
