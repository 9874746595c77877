"""The ASGI application that `uvicorn app.main:app` serves."""

import sys

# structlog imports rich where it finds it, which takes 4 MiB of each worker and serves only the commands.
sys.modules["rich"] = None  # type: ignore[assignment] # how Python marks a module as not importable

from app.application import create_app
from app.config import load_settings

app = create_app(load_settings())
