"""Kanban Auth Service. Here stands what has to be done before anything else is imported."""

import gc
import sys

# What imports make lives on, so to look for garbage among it is in vain: a quarter of the time of a start.
gc.set_threshold(50_000)
# structlog would import rich, where a command has it, and FastAPI the old Pydantic: 6 MiB of each worker.
# None is how Python marks a module as not importable.
sys.modules["rich"] = sys.modules["pydantic.v1"] = None  # type: ignore[assignment] # typeshed knows modules only
import structlog  # noqa: F401 — so that it is imported now

del sys.modules["rich"]  # for commands
