import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from app.errors import Unavailable
from app.greenlets import run_in_greenlet
from app.http.connections import STATE_KEY
from app.http.dependencies import HealthServiceDep
from app.http.routing import Route
from app.schemas.errors import RETRY_AFTER, responses
from app.schemas.health import Healthy, Unhealthy

TIMEOUT_SECONDS: Final = 1.8
_READY: Final[dict[int | str, dict[str, Any]]] = {
    **responses(),
    503: {
        "model": Unhealthy,
        "headers": RETRY_AFTER,
        "description": "The database does not answer, is read-only or has another schema, or we stop",
    },
}

router = APIRouter(tags=["operations"], route_class=Route)


@router.get(
    "/health",
    name="read_health_at_root",
    summary="Can it serve? (the path that the frontend uses)",
    response_model=Healthy,
    responses=_READY,
)
@router.get("/api/v1/health", summary="Can it serve?", response_model=Healthy, responses=_READY)
async def read_health(request: Request, health: HealthServiceDep) -> Healthy | JSONResponse:
    """Whether the database answers, takes writes, and has the schema that the code needs.

    503, too, for a server that is about to stop.
    """
    try:
        if request.scope["state"][STATE_KEY].draining:
            raise Unavailable
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await run_in_greenlet(health.check)
    except (Unavailable, TimeoutError):
        retry = {"Retry-After": str(Unavailable.retry_after)}
        return JSONResponse(Unhealthy().model_dump(), status_code=503, headers=retry)
    return Healthy()


@router.get("/api/v1/health/live", summary="Is the process alive?", responses=responses())
async def read_liveness() -> Healthy:
    """Does not check the database."""
    return Healthy()
