"""Import of accounts with their password hashes."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.clock import Clock
from app.database.transactions import Database, Transaction
from app.models import AuditEvent, User
from app.models.audit import AuditEventName
from app.models.users import Role
from app.services.accounts.import_rows import RowReader, check_columns, shown, text_of
from app.services.accounts.kept_ids import let_nobody_register, move_sequence_past
from app.services.protection.guesses import GuessService
from app.services.protection.hashing import HashingPool
from app.telemetry.metrics import AccountMetrics

log = structlog.get_logger(__name__)

_BATCH: Final = 1000
_INSERT: Final = (
    insert(User).on_conflict_do_nothing().returning(User.id, User.email, sort_by_parameter_order=False)
)
_RECORD: Final = insert(AuditEvent)

Row = tuple[int, Mapping[Any, object]]
"""Its line, and its values by column."""


class Skipped(NamedTuple):
    line: int
    email: str
    reason: str


@dataclass(slots=True)
class Report:
    imported: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    highest_id: int = 0


class ImportRefused(Exception):
    """No row was imported: some are not usable, or none was to be."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report


@dataclass(frozen=True, slots=True)
class ImportService:
    db: Database
    guesses: GuessService
    hashing: HashingPool
    clock: Clock
    metrics: AccountMetrics

    def run(
        self, columns: Collection[str], rows: Iterable[Row], *, keep_going: bool, dry_run: bool = False
    ) -> Report:
        """`columns` are among `COLUMNS`; `rows` are read lazily. All in one transaction.

        Raises UnusableColumns. Raises ImportRefused if a row is not usable and `keep_going` is False, and
        always with `dry_run`, whose report says what would have been imported.
        """
        check_columns(columns)
        report, lines = Report(), iter(rows)
        with self.db.transaction() as transaction:
            if "id" in columns:
                let_nobody_register(transaction)
            while batch := list(islice(lines, _BATCH)):
                self._import(transaction, list(self._usable(columns, batch, report)), report)
            if report.skipped and not keep_going:
                report.imported = 0
            if dry_run or (report.skipped and not keep_going):
                raise ImportRefused(report)
            if "id" in columns:
                move_sequence_past(transaction, report.highest_id)
            transaction.after_commit(lambda: self._report(report))
        return report

    def _report(self, report: Report) -> None:
        self.metrics.admin_actions.labels("user_imported").inc(report.imported)
        log.info("users.imported", number=report.imported, skipped=len(report.skipped))

    def _usable(
        self, columns: Collection[str], batch: Iterable[Row], report: Report
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        reader = RowReader(self.hashing, self.clock())
        for line, row in batch:
            try:
                yield line, reader.read(columns, row)
            except ValueError as error:
                report.skipped.append(Skipped(line, shown(text_of(row, "email")), str(error)))

    def _import(
        self, transaction: Transaction, users: list[tuple[int, dict[str, Any]]], report: Report
    ) -> None:
        if not users:
            return
        ids = {row.email: row.id for row in transaction.execute(_INSERT, [user for _, user in users])}
        self.guesses.forget(transaction, ids)
        events, refused = [], []
        for line, user in users:
            if (user_id := ids.pop(user["email"], None)) is None:
                refused.append((line, user))
            else:
                events.append(_event(user_id, user.get("role", Role.USER), self.clock()))
                report.highest_id = max(report.highest_id, user_id)
        report.skipped += _why(transaction, refused) if refused else []
        report.imported += len(events)
        if events:
            transaction.execute(_RECORD, events)


def _why(transaction: Transaction, refused: list[tuple[int, dict[str, Any]]]) -> Iterator[Skipped]:
    """Whether it was the email that is there already, or the id."""
    emails = [user["email"] for _, user in refused]
    taken = {row.email for row in transaction.execute(select(User.email).where(User.email.in_(emails)))}
    for line, user in refused:
        reason = "registered, or in an earlier row"
        if user["email"] not in taken:
            reason = f"the id {user['id']} is taken, or in an earlier row"
        yield Skipped(line, user["email"], reason)


def _event(user_id: int, role: str, now: Any) -> dict[str, Any]:
    return {
        "at": now,
        "user_id": user_id,
        "event": AuditEventName.USER_IMPORTED,
        "details": {"role": role},
    }
