"""What work costs the database, in blocks that it reads: a figure that no busy machine changes."""

from collections.abc import Callable

from sqlalchemy import Engine, text

from app.container import Container
from tests.support.waiting import eventually

_BLOCKS = text("SELECT sum(heap_blks_read + heap_blks_hit) FROM pg_statio_user_tables")
_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)


def blocks_read(engine: Engine, container: Container, work: Callable[[], object]) -> int:
    """Closes all connections: each says what it has read when it ends, at the latest."""
    engine.dispose()
    with engine.connect() as connection:
        eventually(lambda: connection.execute(_OTHERS).scalar_one() == 0)
        before = connection.execute(_BLOCKS).scalar_one()
        work()
        container.close()
        eventually(lambda: connection.execute(_OTHERS).scalar_one() == 0)
        return int(connection.execute(_BLOCKS).scalar_one() - before)
