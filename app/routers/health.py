import asyncio
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import JSONResponse

from app.dependencies import ServicesDep
from app.errors import Unavailable
from app.schemas.errors import responses
from app.schemas.health import Healthy, Unhealthy

PATIENCE_SECONDS: Final = 1.8
_READY: Final[dict[int | str, dict[str, Any]]] = {
    **responses(),
    503: {"model": Unhealthy, "description": "The database does not answer, or its schema is too old"},
}

router = APIRouter(tags=["operations"])


@router.get(
    "/health",
    name="read_health_at_root",
    summary="Can it serve? The same, where the frontend asks",
    response_model=Healthy,
    responses=_READY,
)
@router.get("/api/v1/health", summary="Can it serve?", response_model=Healthy, responses=_READY)
async def read_health(services: ServicesDep) -> Healthy | JSONResponse:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await services.health_thread.run(services.health.check)
    except (Unavailable, TimeoutError):
        retry = {"Retry-After": str(Unavailable.retry_after)}
        return JSONResponse(Unhealthy().model_dump(), status_code=503, headers=retry)
    return Healthy()


@router.get("/api/v1/health/live", summary="Is the process alive?", responses=responses())
async def read_liveness() -> Healthy:
    """Touches nothing but the process."""
    return Healthy()
