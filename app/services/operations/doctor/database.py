"""The database as the service finds it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, text

from app.clock import Clock
from app.config import Settings
from app.database.engine import POOL_SIZE, SERVER_TIMEOUTS
from app.database.failures import describe
from app.database.transactions import Database
from app.errors import DatabaseUnavailable
from app.services.operations.doctor.findings import Finding, fault, ok, warning
from app.services.operations.health import HealthService, Schema

OLDEST_SERVER: Final = 14
MAX_SKEW_SECONDS: Final = 2
_SERVER = text(
    "SELECT current_setting('server_version_num')::int / 10000 AS major,"
    " current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int AS connections,"
    " current_setting('transaction_read_only') = 'on' AS read_only,"
    " current_setting('statement_timeout') AS statement_timeout,"
    " current_setting('lock_timeout') AS lock_timeout,"
    " quote_ident(current_user) AS role,"
    " extract(epoch FROM clock_timestamp())::float AS now"
)


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
            schema = self.health.schema()
        except DatabaseUnavailable as error:
            yield fault("database", f"does not answer: {describe(error)}")
            return
        yield _version(server.major)
        yield _writes(server)
        yield self._schema(schema)
        yield _timeouts(server)
        yield _skew(server.now - (before + after) / 2)
        yield self._connections(server.connections)
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

    def _connections(self, allowed: int) -> Finding:
        workers = self.settings.web_concurrency
        needed = workers * POOL_SIZE
        said = f"{workers} worker(s) take up to {needed} of the {allowed} that the server allows"
        return fault("connections", said) if needed > allowed else ok("connections", said)


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
    """A pooler in transaction mode keeps our own from the server, so the role has to have them."""
    missing = {name: value for name, value in SERVER_TIMEOUTS.items() if getattr(server, name) == "0"}
    if missing:
        orders = "; ".join(
            f"ALTER ROLE {server.role} SET {name} = '{value}'" for name, value in missing.items()
        )
        return fault("timeouts", f"no {' and no '.join(missing)}, as behind a pooler; run: {orders}")
    given = ", ".join(f"{name} {getattr(server, name)}" for name in SERVER_TIMEOUTS)
    return ok("timeouts", given)


def _skew(seconds: float) -> Finding:
    said = f"the database's is {seconds:+.1f} s from ours"
    return warning("clock", said) if abs(seconds) > MAX_SKEW_SECONDS else ok("clock", said)
