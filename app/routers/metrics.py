import hmac

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from app.errors import InvalidToken, NotAuthenticated
from app.http.authentication import bearer_of
from app.http.dependencies import MetricsDep, container_of
from app.schemas.errors import responses


async def _metrics_reader(request: Request) -> None:
    """Raises NotAuthenticated or InvalidToken if METRICS_TOKEN is set and was not sent."""
    expected = container_of(request).settings.metrics_token
    if expected is None:
        return
    if not (token := bearer_of(request)):
        raise NotAuthenticated
    if not hmac.compare_digest(token.encode("latin-1"), expected.get_secret_value().encode()):
        raise InvalidToken


router = APIRouter(tags=["operations"], dependencies=[Depends(_metrics_reader)])

_EXAMPLE = 'app_user_logins_total{method="password"} 7.0\n'
_TEXT = {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format", "content": _TEXT},
        **responses(NotAuthenticated, InvalidToken),
    },
)
async def read_metrics(metrics: MetricsDep) -> Response:
    exposition = await run_in_threadpool(metrics.exposition)  # it reads the files of all workers
    return Response(exposition, media_type=CONTENT_TYPE_LATEST)
