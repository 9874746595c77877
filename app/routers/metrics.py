import asyncio
import gzip
import hmac

from fastapi import APIRouter, Depends, Request, Response
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from prometheus_client.exposition import gzip_accepted

from app.errors import Forbidden, InvalidToken, NotAuthenticated, Unavailable
from app.http.authentication import bearer_of
from app.http.dependencies import MetricsDep, container_of
from app.http.routing import LimitedRoute
from app.http.service_tokens import ServiceTokenRequired
from app.models.service_tokens import Scope
from app.schemas.errors import responses
from app.telemetry.metrics import Metrics


class _MetricsReader(SecurityBase):
    scheme_name = "MetricsToken"
    model = HTTPBearer(description="METRICS_TOKEN if it is set, or a service token for `metrics`.")

    _by_service_token = ServiceTokenRequired(Scope.METRICS)

    async def __call__(self, request: Request) -> None:
        """Raises NotAuthenticated, InvalidToken, Forbidden, DatabaseUnavailable."""
        expected = container_of(request).settings.metrics_token
        if expected is None:
            return
        token = bearer_of(request)
        if not hmac.compare_digest(token.encode("latin-1"), expected.get_secret_value().encode()):
            await self._by_service_token(request)


router = APIRouter(
    tags=["operations"],
    route_class=LimitedRoute,
    dependencies=[Depends(_MetricsReader())],
)

_FAST = 3  # half the time of 9, for a tenth more bytes
_EXAMPLE = 'app_user_logins_total{method="password"} 7.0\n'
_TEXT = {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format", "content": _TEXT},
        **responses(NotAuthenticated, InvalidToken, Forbidden, Unavailable),
    },
)
async def read_metrics(metrics: MetricsDep, request: Request) -> Response:
    """Of all workers of this server together."""
    headers = request.headers
    zipped = gzip_accepted(headers.get("Accept-Encoding", ""))
    # On a thread, as it reads the files of all workers. One of anyio's would be 3 MiB of imports.
    return await asyncio.to_thread(_exposition, metrics, headers.get("Accept", ""), zipped=zipped)


def _exposition(metrics: Metrics, accept: str, *, zipped: bool) -> Response:
    content, media_type = metrics.exposition.write(accept)
    headers = {"Vary": "Accept, Accept-Encoding"}
    if zipped:
        content = gzip.compress(content, _FAST)
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=media_type, headers=headers)
