"""The service without its metrics and its request log, to find by subtraction what they cost."""

from app import application
from app.config import load_settings
from app.middleware.metrics import MetricsMiddleware
from app.middleware.request_log import RequestLogMiddleware

setattr(application, "watch", lambda *_: None)  # noqa: B010 — mypy minds the plain spelling
app = application.create_app(load_settings())
app.state.services.threads._waiting = None  # noqa: SLF001 — the count of those in line
OBSERVERS: tuple[object, ...] = (MetricsMiddleware, RequestLogMiddleware)
app.user_middleware = [each for each in app.user_middleware if each.cls not in OBSERVERS]
