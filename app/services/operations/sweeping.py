"""Deletes what is due, without reading all that is not.

Where an index says what is due, it is asked. Where that index would make each refresh or charge write to
it, the table is read in stretches of blocks instead, from where the last sweep ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Executable,
    Select,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute

from app.clock import Clock
from app.database.transactions import Database, retry_conflicts
from app.models import Sweep

BATCH_SIZE: Final = 1000
STRETCH: Final = 256  # blocks, of 8 KiB
BARREN_STRETCHES: Final = 16
WORTHWHILE: Final = 64  # rows of a stretch
ADVISORY_LOCK: Final = 6_051_220_108  # migrations lock the previous number

Moments = Mapping[str, datetime]

_TRY_LOCK: Final = select(func.pg_try_advisory_xact_lock(ADVISORY_LOCK))
_BLOCKS = text(
    "pg_relation_size(CAST(:table_name AS regclass)) / CAST(current_setting('block_size') AS int) AS blocks"
)
_SELECT_BLOCKS: Final = select(_BLOCKS)
_now = bindparam("now", type_=DateTime(timezone=True))
_first: Final = insert(Sweep).values(table_name=bindparam("table_name"), next_block=0, begun_at=_now)
# A turn of the future was taken by a wrong clock, and counts for nothing.
_TAKE_TURN: Final = _first.on_conflict_do_update(
    index_elements=[Sweep.table_name],
    set_={"begun_at": _first.excluded.begun_at},
    where=or_(Sweep.begun_at <= bindparam("before"), Sweep.begun_at > bindparam("future")),
).returning(Sweep.next_block, _BLOCKS)
_GO_ON_AT: Final = (
    update(Sweep).where(Sweep.table_name == bindparam("swept")).values(next_block=bindparam("block"))
)


class Due(NamedTuple):
    """What to delete of a table."""

    table_name: str
    statement: Executable
    in_stretches: bool

    @classmethod
    def by_index(cls, key: InstrumentedAttribute[Any], due: ColumnElement[bool]) -> "Due":
        """`key` is the primary key; `due` is that an indexed column is past a moment."""
        # The order makes the index cheaper than the table, however much statistics take for due.
        return cls(
            key.class_.__tablename__,
            _delete(key, select(key).where(due).order_by(due.left)),
            in_stretches=False,
        )

    @classmethod
    def anywhere(cls, key: InstrumentedAttribute[Any], due: ColumnElement[bool]) -> "Due":
        table = key.class_.__tablename__
        there = text(f"{table}.ctid >= CAST(:begin AS tid) AND {table}.ctid < CAST(:end AS tid)")
        return cls(table, _delete(key, select(key).where(there, due)), in_stretches=True)


def _delete(key: InstrumentedAttribute[Any], due: Select[Any]) -> Executable:
    batch = due.limit(BATCH_SIZE).with_for_update(skip_locked=True)
    return delete(key.class_).where(key.in_(batch)).returning(key)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Each method returns how many rows it deleted, or None if another process is deleting.

    In batches, each a transaction of its own so that row locks are short; locked rows are skipped.
    All raise DatabaseUnavailable.
    """

    db: Database
    interval: timedelta
    clock: Clock

    def delete(self, due: Due, moments: Moments) -> int | None:
        """All that is due, wherever it is."""
        if not due.in_stretches:
            return self._batches(due, moments)
        blocks = self.db.execute(_SELECT_BLOCKS, {"table_name": due.table_name})[0].blocks
        return self._read(due, moments, range(0, max(blocks, 1), STRETCH), spare_effort=False)[0]

    def sweep(self, due: Due, moments: Moments) -> int | None:
        """For a big table, once in `interval`, by whoever comes first: a part, as long as it pays."""
        if not due.in_stretches:
            return self._batches(due, moments)
        if not (turn := self._take_turn(due.table_name)):
            return 0
        begin, blocks = turn
        stretches = range(begin if begin < blocks else 0, max(blocks, 1), STRETCH)
        deleted, ended_at = self._read(due, moments, stretches, spare_effort=True)
        next_block = ended_at if ended_at < blocks else 0
        if next_block != begin:
            self.db.execute(_GO_ON_AT, {"swept": due.table_name, "block": next_block})
        return deleted

    def _take_turn(self, table_name: str) -> tuple[int, int] | None:
        """The block to go on at, and how many there are."""
        now = self.clock()
        parameters = {"table_name": table_name, "now": now}
        parameters |= {"before": now - self.interval, "future": now + self.interval}
        rows = self.db.execute(_TAKE_TURN, parameters)
        return (rows[0].next_block, rows[0].blocks) if rows else None

    def _read(
        self, due: Due, moments: Moments, stretches: range, *, spare_effort: bool
    ) -> tuple[int | None, int]:
        """Also returns the block after the last one that was read."""
        total, barren, block = None, 0, stretches.start
        for block in stretches:
            place = {"begin": f"({block},0)", "end": f"({block + STRETCH},0)"}
            deleted = self._batches(due, {**moments, **place})
            if deleted is None:
                return total, block
            total = (total or 0) + deleted
            barren = 0 if deleted >= WORTHWHILE else barren + 1
            if spare_effort and barren == BARREN_STRETCHES:
                break
        return total, block + STRETCH

    def _batches(self, due: Due, parameters: Mapping[str, Any]) -> int | None:
        deleted = batch = self._batch(due.statement, parameters)
        while batch == BATCH_SIZE:
            if batch := self._batch(due.statement, parameters):
                deleted = (deleted or 0) + batch
        return deleted

    @retry_conflicts
    def _batch(self, statement: Executable, parameters: Mapping[str, Any]) -> int | None:
        with self.db.transaction() as transaction:
            if not transaction.execute(_TRY_LOCK)[0][0]:
                return None
            return len(transaction.execute(statement, parameters))
