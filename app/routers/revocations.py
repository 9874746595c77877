from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from time import monotonic
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.responses import Response

from app.errors import (
    CursorExpired,
    Forbidden,
    InvalidInput,
    InvalidToken,
    NotAuthenticated,
    ServiceError,
    Unavailable,
)
from app.greenlets import run_in_greenlet
from app.http.dependencies import RevocationFeedDep, RevocationHubDep
from app.http.half_closed import client_sends_no_more
from app.http.routing import Route
from app.http.service_tokens import ServiceTokenRequired
from app.models.service_tokens import Scope
from app.schemas.errors import responses
from app.schemas.revocations import Revocation, RevocationPage
from app.services.delivery.hub import HEARTBEAT_SECONDS, Batch

_STREAM: Final = "text/event-stream"
_UNBUFFERED: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second is nginx's
Reader = Annotated[Callable[[], None], Depends(ServiceTokenRequired(Scope.REVOCATIONS))]
_CursorText = Annotated[str | None, Query(max_length=2000, description="`cursor` of what was read last.")]

router = APIRouter(prefix="/api/v1/revocations", tags=["siblings"], route_class=Route)


@router.get(
    "",
    summary="Tokens that siblings must not believe any more",
    response_model=RevocationPage,
    responses={
        200: {"content": {_STREAM: {"schema": {"type": "string"}}}},
        **responses(InvalidInput, NotAuthenticated, InvalidToken, Forbidden, CursorExpired, Unavailable),
    },
)
async def read_revocations(
    check: Reader,
    feed: RevocationFeedDep,
    hub: RevocationHubDep,
    request: Request,
    after: _CursorText = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=2000)] = None,
) -> RevocationPage | Response:
    """In the order of their commits; without `after`, all that concern unexpired tokens.

    With `Accept: text/event-stream`, a stream of events whose `data` is one revocation, and whose `id` is
    its cursor. It begins after `Last-Event-ID`, or `after`.
    """
    if _STREAM not in request.headers.get("accept", ""):
        return RevocationPage.model_validate(await run_in_greenlet(feed.page, after, limit))
    batches = await hub.open(last_event_id or after)
    return EventSourceResponse(_events(batches, check, request), headers=_UNBUFFERED)


async def _events(
    batches: AsyncIterator[Batch], check: Callable[[], None], request: Request
) -> AsyncIterator[bytes]:
    """The token is checked again now and then. An error ends the stream: the client comes back."""
    checked_at = monotonic()
    yield format_sse_event(retry=1000, comment="open")
    if client_sends_no_more(request):  # who ends its side from now on is cut off
        return
    try:
        async for batch in batches:
            if monotonic() - checked_at >= HEARTBEAT_SECONDS:
                await run_in_greenlet(check)
                checked_at = monotonic()
            yield _text(batch) if batch else format_sse_event(comment="ping")
    except ServiceError:
        return


@lru_cache(maxsize=64)
def _text(batch: Batch) -> bytes:
    """Made once for all listeners."""
    return b"".join(
        format_sse_event(
            event="revocation", data_str=Revocation.model_validate(item).model_dump_json(), id=item.cursor
        )
        for item in batch
    )
