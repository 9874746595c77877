"""Everything that tests share and that is no fixture."""

from tests.support.api import (
    HEALTH,
    LIVE,
    PASSWORD,
    Api,
    MakeService,
    Services,
    Serving,
    bearer,
    browser,
    error_of,
    metric_of,
    new_email,
    request,
    serve,
)
from tests.support.databases import MakeDatabase, OwnServer, Run, alembic_config, look_into, patient
from tests.support.logs import Lines
from tests.support.processes import EndedServer, Started, StartProcess, processes, reserved_port
from tests.support.settings import NOWHERE, SECRET_KEY, clean_environment, forget_settings, make_settings
from tests.support.waiting import PATIENCE_SECONDS, MovableClock, at_once, eventually, until_blocked

__all__ = [
    "HEALTH",
    "LIVE",
    "NOWHERE",
    "PASSWORD",
    "PATIENCE_SECONDS",
    "SECRET_KEY",
    "Api",
    "EndedServer",
    "Lines",
    "MakeDatabase",
    "MakeService",
    "MovableClock",
    "OwnServer",
    "Run",
    "Services",
    "Serving",
    "StartProcess",
    "Started",
    "alembic_config",
    "at_once",
    "bearer",
    "browser",
    "clean_environment",
    "error_of",
    "eventually",
    "forget_settings",
    "look_into",
    "make_settings",
    "metric_of",
    "new_email",
    "patient",
    "processes",
    "request",
    "reserved_port",
    "serve",
    "until_blocked",
]
