"""Alembic, for the start of the service."""

from alembic import command
from alembic.config import Config

from app.database.revisions import PROJECT


def upgrade_to_head() -> None:
    """Migrate the database of the settings."""
    command.upgrade(Config(PROJECT / "alembic.ini"), "head")
