from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.clock import Clock
from app.config import Settings
from app.database.transactions import Database
from app.foreign_settings import foreign_settings
from app.services.operations.doctor.database import DatabaseChecks
from app.services.operations.doctor.findings import Finding, ok, warning
from app.services.operations.doctor.standby import StandbyChecks
from app.services.operations.doctor.strength import check_strength
from app.services.operations.doctor.surroundings import check_surroundings
from app.services.operations.health import HealthService


@dataclass(frozen=True, slots=True)
class DoctorService:
    settings: Settings
    db: Database
    standby: Database | None
    health: HealthService
    clock: Clock
    examine_tables: Callable[[], Iterator[Finding]]

    def examine(self) -> Iterator[Finding]:
        yield ok("settings", f"usable; ENVIRONMENT is {self.settings.environment}")
        for theirs, ours in foreign_settings(self.settings).items():
            yield warning("settings", f"{theirs} is none of this service's: set {ours}")
        yield from check_strength(self.settings)
        checks = DatabaseChecks(self.settings, self.db, self.health, self.clock, self._examine_more)
        yield from checks.examine()
        yield from check_surroundings(self.settings)

    def _examine_more(self) -> Iterator[Finding]:
        yield from StandbyChecks(self.db, self.standby).examine()
        yield from self.examine_tables()
