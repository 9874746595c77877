from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.dependencies import current_admin, services_of
from app.errors import Forbidden, InvalidInput
from app.models.audit import AuditEventName
from app.schemas.audit import AuditEventOut
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.fields import Moment
from app.schemas.pages import LINK, MAX_ID, Limit, cut
from app.services.audit import AuditFilter

router = APIRouter(prefix="/api/v1/admin/audit", tags=["administration"])
Id = Annotated[int | None, Query(ge=1, le=MAX_ID)]


@router.get(
    "",
    summary="Who did what to whom",
    dependencies=[Depends(current_admin)],
    responses={200: {"headers": LINK}, **responses(*SIGNED_IN, Forbidden, InvalidInput)},
)
async def list_audit_events(
    *,
    request: Request,
    response: Response,
    limit: Limit = 100,
    before: Id = None,
    user_id: Id = None,
    actor_id: Id = None,
    event: AuditEventName | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> list[AuditEventOut]:
    """Newest first. `since` is the first moment, `until` the first one that is too late."""
    services = services_of(request)
    wanted = AuditFilter(user_id, actor_id, event, since, until)
    rows = await services.threads.run(services.audit.list, wanted, before=before, limit=limit + 1)
    return [AuditEventOut.model_validate(row) for row in cut(rows, limit, "before", request, response)]
