"""Where a server is in which history of which database: whether a standby shows what the primary does."""

from typing import Final, NamedTuple

from sqlalchemy import text

from app.database.transactions import Executor

# Any role may ask for all of it. A commit that did not wait for the disk is visible before it is written,
# so a primary is where it inserts. The timeline that a standby replays is nowhere to be seen; the control
# file has it from the last restartpoint on, and no later one that it has left.
_SELECT_PLACE: Final = text(
    """
    SELECT system.system_identifier, pg_database.oid, pg_is_in_recovery(),
           CASE WHEN pg_is_in_recovery()
                THEN (SELECT greatest(timeline_id, min_recovery_end_timeline)
                      FROM pg_control_checkpoint(), pg_control_recovery())
                ELSE CAST(CAST('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS bit(32)) AS integer)
           END,
           CAST(CASE WHEN pg_is_in_recovery()
                     THEN coalesce(pg_last_wal_replay_lsn(), '0/0')
                     ELSE pg_current_wal_insert_lsn()
                END - '0/0' AS bigint)
    FROM pg_control_system() AS system, pg_database
    WHERE datname = current_database()
    """
).columns()


class Place(NamedTuple):
    """`position` is in bytes of WAL: on a primary up to its newest record, on a standby what it shows."""

    system: int
    database: int
    is_standby: bool
    timeline: int
    position: int

    def objection(self, primary: "Place") -> str | None:
        """What, apart from a lag, keeps a server here from answering for that primary."""
        if self.system != primary.system:
            return "is of another database system"
        if self.database != primary.database:
            return "is another database of the same system"
        if not self.is_standby:
            return "is no standby"
        if self.timeline != primary.timeline:
            return f"was last on timeline {self.timeline}, and the primary is on {primary.timeline}"
        return None


def place_of(database: Executor) -> Place:
    """Raises DatabaseUnavailable."""
    return Place._make(database.execute(_SELECT_PLACE)[0])
