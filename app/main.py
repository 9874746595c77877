"""What `uvicorn app.main:app` loads."""

from app.application import create_app
from app.config import load_settings

app = create_app(load_settings())
