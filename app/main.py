"""The ASGI application that `uvicorn app.main:app` serves."""

from app.application import create_app
from app.config import load_settings

app = create_app(load_settings())
