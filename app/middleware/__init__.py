"""Plain ASGI: what every request passes through."""
