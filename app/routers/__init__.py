"""Route handlers: parse the request, call a service, return a schema."""

from typing import Final

from app.routers import (
    account,
    account_pages,
    admin,
    audit,
    development,
    health,
    introspection,
    keys,
    metrics,
    recovery,
    revocations,
    sessions,
    users,
    verification,
    well_known,
)

# FastAPI matches routes in this order, so the most frequent ones come first.
ROUTERS: Final = (
    sessions.router,
    users.router,
    users.me_router,
    health.router,
    well_known.router,
    metrics.router,
    verification.router,
    introspection.router,
    revocations.router,
    account.router,
    recovery.router,
    account_pages.router,
    admin.router,
    audit.router,
    keys.router,
    development.router,
)
