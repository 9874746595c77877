"""Route handlers: parse the request, call a service, return a schema."""

from typing import Final

from app.routers import (
    account,
    admin,
    audit,
    health,
    introspection,
    metrics,
    revocations,
    sessions,
    users,
    verification,
)

# FastAPI matches routes in this order, so the most frequent ones come first.
ROUTERS: Final = (
    sessions.router,
    users.router,
    users.me_router,
    health.router,
    metrics.router,
    verification.router,
    introspection.router,
    revocations.router,
    account.router,
    admin.router,
    audit.router,
)
