from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.dependencies import ServicesDep, metrics_reader
from app.errors import InvalidToken, NotAuthenticated
from app.schemas.errors import responses

router = APIRouter(tags=["operations"])

_EXAMPLE = 'app_user_logins_total{method="password"} 7.0\n'
_TEXT = {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    dependencies=[Depends(metrics_reader)],
    responses={
        200: {"description": "Prometheus text format", "content": _TEXT},
        **responses(NotAuthenticated, InvalidToken),
    },
)
def read_metrics(services: ServicesDep) -> Response:
    return Response(services.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
