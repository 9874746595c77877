"""Settings of the database: where it is, by which ways, and how many connections a worker may have."""

from typing import Final

from pydantic import Field

from app.database_urls import PostgresUrl
from app.setting_groups import EnvironmentSettings

POOL_SIZE: Final = 10


class DatabaseSettings(EnvironmentSettings):
    database_url: PostgresUrl
    database_direct_url: PostgresUrl | None = None
    database_read_url: PostgresUrl | None = None
    migration_database_url: PostgresUrl | None = None
    database_pool_size: int = Field(default=POOL_SIZE, ge=4, le=1000)
    run_migrations: bool = True
    database_wait_seconds: int = Field(default=60, ge=0, le=3600)

    @property
    def direct_url(self) -> str:
        """DATABASE_DIRECT_URL, or else DATABASE_URL."""
        return (self.database_direct_url or self.database_url).get_secret_value()

    @property
    def migration_url(self) -> str:
        """MIGRATION_DATABASE_URL, or else the direct one."""
        given = self.migration_database_url
        return given.get_secret_value() if given else self.direct_url
