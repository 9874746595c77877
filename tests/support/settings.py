"""Settings of the tests alone, for services in this process and for programs beside it."""

import os
from typing import Any

from pydantic_settings import InitSettingsSource

from app.config import Settings

SECRET_KEY = "a secret key of the tests, and of nothing else"
NOWHERE = "postgresql://somebody:hidden-password@127.0.0.1:1/nowhere"
"""A database that refuses to be connected to."""


def make_settings(**values: Any) -> Settings:
    defaults: dict[str, Any] = {
        "environment": "development",
        "secret_key": SECRET_KEY,
        "bcrypt_rounds": 10 if values.get("environment") == "production" else 4,
        "log_level": "ERROR",
        "mail": "smtp_url" in values,  # a sender in each service would cost all tests a little
        "throttles": False,  # all tests come from one address
        "request_timeout_seconds": 300,  # a busy machine is no slow client
        "cleanup_interval_seconds": 0,  # a clock that a test has moved would end the sessions of others
    }
    # What is given, and nothing else: to look into the environment would take half of a service's start.
    given = InitSettingsSource(Settings, init_kwargs=defaults | values)
    return Settings(_build_sources=((given,), {}))


def forget_settings() -> None:
    """Whoever runs the tests may have some of the service's in their environment."""
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)


def clean_environment(**settings: str) -> dict[str, str]:
    """For programs that a test starts: nothing of ours, so that they see the settings of the test alone."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": "/usr/bin:/bin", **measured, **settings}
