"""The service without metrics and request log, to measure what these cost."""

from app.application import create_app
from app.config import load_settings
from app.http.middleware.observability import ObservabilityMiddleware

OBSERVERS: tuple[object, ...] = (ObservabilityMiddleware,)
app = create_app(load_settings())
app.state.container.resources.requests.engine.pool.metrics = None
app.user_middleware = [each for each in app.user_middleware if each.cls not in OBSERVERS]
