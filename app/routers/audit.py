from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.errors import Forbidden, InvalidInput
from app.http.authentication import AdminOnly
from app.http.dependencies import AuditServiceDep
from app.http.pages import LINK, MAX_ID, Limit, page_of
from app.http.routing import Route
from app.models.audit import AuditEventName
from app.schemas.audit import AuditEventOut
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.fields import Moment
from app.services.operations.audit import AuditFilter

router = APIRouter(
    prefix="/api/v1/admin/audit", tags=["administration"], route_class=Route, dependencies=[AdminOnly]
)
Id = Annotated[int | None, Query(ge=1, le=MAX_ID)]


@router.get(
    "",
    summary="Who did what to whom",
    responses={200: {"headers": LINK}, **responses(*SIGNED_IN, Forbidden, InvalidInput)},
)
def list_audit_events(
    *,
    audit: AuditServiceDep,
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
    """Newest first. `since` is inclusive, `until` is exclusive."""
    filters = AuditFilter(user_id, actor_id, event, since, until)
    rows = audit.list(filters, before=before, limit=limit + 1)
    return [AuditEventOut.model_validate(row) for row in page_of(rows, limit, "before", request, response)]
