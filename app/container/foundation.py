"""What all services are built on."""

import tomllib
from typing import Final

from app.clock import Clock, utc_now
from app.config import Settings
from app.database.revisions import PROJECT
from app.models.sessions import RevocationReason
from app.resources import open_resources
from app.telemetry.metrics import Metrics
from app.telemetry.workers import Worker

_PYPROJECT: Final = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION: Final[str] = _PYPROJECT["project"]["version"]


class Foundation:
    """Settings, clock, metrics, and what the process holds open."""

    def __init__(
        self, settings: Settings, clock: Clock = utc_now, worker: Worker | None = None, *, web: bool = False
    ) -> None:
        """Opens no connection. With `web`, the services run in greenlets on an event loop.

        `worker` is given if several processes share their metrics.
        """
        self.settings = settings
        self.clock = clock
        self.worker = worker
        self.metrics = Metrics(RevocationReason, VERSION, worker)
        self.resources = open_resources(settings, self.metrics, on_event_loop=web)
        self._db = self.resources.requests
        self._reads = self.resources.reads
        self._hashing = self.resources.hashing

    def close(self) -> None:
        self.resources.close()
        if self.worker is not None:
            self.worker.leave()
