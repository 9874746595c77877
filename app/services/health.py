from dataclasses import dataclass

from sqlalchemy import literal, select

from app.database import Database

_PING = select(literal(1))


@dataclass(frozen=True, slots=True)
class HealthService:
    db: Database

    def check(self) -> None:
        """Raises DatabaseUnavailable when the database does not answer."""
        self.db.execute(_PING)
