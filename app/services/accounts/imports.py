"""Import of accounts with their password hashes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy.dialects.postgresql import insert

from app.clock import Clock
from app.database.transactions import Database, Transaction
from app.models import AuditEvent, User
from app.models.audit import AuditEventName
from app.models.users import Role
from app.security.emails import normalize_email
from app.services.protection.guesses import GuessService
from app.services.protection.hashing import HashingPool
from app.telemetry.metrics import AccountMetrics

log = structlog.get_logger(__name__)

COLUMNS: Final = ("email", "hashed_password", "role")
_BATCH: Final = 1000
_INSERT = insert(User).on_conflict_do_nothing().returning(User.id, User.email, sort_by_parameter_order=False)
_RECORD = insert(AuditEvent)


class Skipped(NamedTuple):
    line: int
    email: str
    reason: str


@dataclass(slots=True)
class Report:
    imported: int = 0
    skipped: list[Skipped] = field(default_factory=list)


class ImportRefused(Exception):
    """No row was imported, because some rows are not usable."""

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

    def run(self, rows: Iterable[tuple[int, Mapping[str, str | None]]], *, keep_going: bool) -> Report:
        """`rows` are pairs of a line number and a mapping with `COLUMNS`; they are read lazily.

        All in one transaction. Raises ImportRefused if a row is not usable and `keep_going` is False.
        """
        report, lines = Report(), iter(rows)
        with self.db.transaction() as transaction:
            while batch := list(islice(lines, _BATCH)):
                self._import(transaction, list(self._usable(batch, report)), report)
            if report.skipped and not keep_going:
                report.imported = 0
                raise ImportRefused(report)
            transaction.after_commit(lambda: self._report(report))
        return report

    def _report(self, report: Report) -> None:
        self.metrics.admin_actions.labels("user_imported").inc(report.imported)
        log.info("users.imported", number=report.imported, skipped=len(report.skipped))

    def _usable(
        self, batch: Iterable[tuple[int, Mapping[str, str | None]]], report: Report
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for line, row in batch:
            given, hashed, role = ((row.get(name) or "").strip() for name in COLUMNS)
            try:
                email = normalize_email(given)
            except ValueError as error:
                report.skipped.append(Skipped(line, given, str(error)))
                continue
            if problem := self.hashing.problem_with(hashed):
                report.skipped.append(Skipped(line, given, f"hashed_password {problem}"))
            elif role not in list(Role):
                report.skipped.append(Skipped(line, given, f"role is none of {', '.join(Role)}"))
            else:
                yield line, {"email": email, "hashed_password": hashed, "role": role}

    def _import(
        self, transaction: Transaction, users: list[tuple[int, dict[str, Any]]], report: Report
    ) -> None:
        if not users:
            return
        now = self.clock()
        ids = {
            row.email: row.id
            for row in transaction.execute(_INSERT, [user | {"created_at": now} for _, user in users])
        }
        self.guesses.forget(transaction, ids)
        events = []
        for line, user in users:
            if (user_id := ids.pop(user["email"], None)) is None:
                report.skipped.append(Skipped(line, user["email"], "registered, or twice in the file"))
            else:
                events.append(_event(user_id, user["role"], now))
        report.imported += len(events)
        if events:
            transaction.execute(_RECORD, events)


def _event(user_id: int, role: str, now: Any) -> dict[str, Any]:
    return {
        "at": now,
        "user_id": user_id,
        "event": AuditEventName.USER_IMPORTED,
        "details": {"role": role},
    }
