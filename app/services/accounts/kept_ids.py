"""New users with ids from elsewhere."""

from typing import Final

from sqlalchemy import text

from app.database.transactions import Transaction

# Whoever registers meanwhile waits: they could get an id that is about to be taken.
_LET_NOBODY_REGISTER: Final = text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
_MOVE_SEQUENCE: Final = text("""
    SELECT setval(sequence, :highest)
    FROM (SELECT pg_get_serial_sequence('users', 'id')::regclass AS sequence) AS ids
    WHERE coalesce(pg_sequence_last_value(sequence), 0) < :highest
""")


def let_nobody_register(transaction: Transaction) -> None:
    """Until the transaction ends. Those who try wait for as long as `lock_timeout`."""
    transaction.execute(_LET_NOBODY_REGISTER)


def move_sequence_past(transaction: Transaction, highest: int) -> None:
    """Never back. Nobody may register meanwhile."""
    transaction.execute(_MOVE_SEQUENCE, {"highest": highest})
