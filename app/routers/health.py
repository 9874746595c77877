import asyncio
from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse

from app.dependencies import ServicesDep
from app.errors import Unavailable
from app.schemas.errors import responses
from app.schemas.health import Healthy, Unhealthy

PATIENCE_SECONDS: Final = 1.8

router = APIRouter(prefix="/api/v1/health", tags=["operations"])


@router.get(
    "",
    summary="Can it serve?",
    response_model=Healthy,
    responses={
        **responses(),
        503: {"model": Unhealthy, "description": "The database does not answer"},
    },
)
async def read_health(services: ServicesDep) -> Healthy | JSONResponse:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await services.health_thread.run(services.health.check)
    except (Unavailable, TimeoutError):
        retry = {"Retry-After": str(Unavailable.retry_after)}
        return JSONResponse(Unhealthy().model_dump(), status_code=503, headers=retry)
    return Healthy()


@router.get("/live", summary="Is the process alive?", responses=responses())
async def read_liveness() -> Healthy:
    """Touches nothing but the process."""
    return Healthy()
