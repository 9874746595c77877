"""Resources that a process holds open: database connections and hashing threads."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.pool import QueuePool

from app.config import Settings
from app.database.engine import connect, observe
from app.database.pool import EventLoopPool, WriteTurns
from app.database.reading import StandbyReads
from app.database.transactions import Database, Executor
from app.security.passwords import PasswordHasher
from app.services.protection.hashing import HashingPool
from app.telemetry.metrics import Metrics

BACKGROUND_CONNECTIONS: Final = 2
"""Of those that a worker may have."""

STANDBY_CONNECTIONS: Final = 2
"""Beside those. Who finds none free within STANDBY_SECONDS asks the primary."""

STANDBY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Resources:
    """Cleanup and health checks use `background`, so that they never wait for connections of requests.

    `direct` is past a pooler, for what concerns a session and not a transaction.
    """

    requests: Database
    background: Database
    direct: Engine
    standby: Database | None
    hashing: HashingPool

    @property
    def engines(self) -> tuple[Engine, ...]:
        standby = (self.standby.engine,) if self.standby else ()
        return self.requests.engine, self.background.engine, self.direct, *standby

    @property
    def reads(self) -> Executor:
        """For what a standby may answer."""
        return StandbyReads(self.requests, self.standby) if self.standby else self.requests

    def close(self) -> None:
        """The resources reopen on their next use."""
        self.hashing.close()
        for engine in self.engines:
            engine.dispose()


def open_resources(settings: Settings, metrics: Metrics, *, on_event_loop: bool) -> Resources:
    """Opens no connection. `on_event_loop`: whether the services will run in greenlets."""
    url, size = settings.database_url.get_secret_value(), settings.database_pool_size
    pool = EventLoopPool if on_event_loop else QueuePool
    traced = settings.otel_exporter_otlp_endpoint is not None

    def database(size: int, *, direct: bool = False) -> Database:
        engine = connect(url, size=size, pool=pool)
        observe(engine, metrics.database)
        turns = WriteTurns(engine.pool) if isinstance(engine.pool, EventLoopPool) else None
        return Database(engine, direct, turns)

    requests = database(size - BACKGROUND_CONNECTIONS, direct=on_event_loop and not traced)
    background = database(BACKGROUND_CONNECTIONS)
    metrics.database.pool_size.set(size)
    direct = connect(settings.direct_url, size=1, pool=pool)
    standby = None
    if settings.database_read_url is not None:
        read_url = settings.database_read_url.get_secret_value()
        standby = Database(connect(read_url, size=STANDBY_CONNECTIONS, pool=pool, patience=STANDBY_SECONDS))
    hasher = PasswordHasher(settings.bcrypt_rounds)
    hashing = HashingPool(hasher, metrics.hashing, workers=settings.web_concurrency)
    return Resources(requests, background, direct, standby, hashing)
