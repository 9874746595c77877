"""Runs the migrations: URL from the settings, one process at a time, 10 s lock timeout for tables."""

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.config import load_settings
from app.models import Base

ADVISORY_LOCK = 6_051_220_107  # must differ from all other advisory locks in the database


def run() -> None:
    url = context.config.attributes.get("url") or load_settings().database_url.get_secret_value()
    options = {"connect_timeout": 5, "application_name": "kanban-auth migrations"}
    engine = create_engine(url, poolclass=NullPool, connect_args=options)
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        context.configure(connection=connection, target_metadata=Base.metadata)
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    context.run_migrations()
else:
    run()
