from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.errors import CrossSiteRequest, Forbidden, InvalidInput
from app.http.authentication import AccessToken, CurrentUser
from app.http.forward_auth import SameSite
from app.http.routing import ASKED_BY_PROXIES, Route
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.introspection import Demand

router = APIRouter(prefix=ASKED_BY_PROXIES, tags=["siblings"], route_class=Route, dependencies=[SameSite])


@router.get(
    "",
    status_code=204,
    summary="May this request pass? For proxies",
    responses={
        204: {
            "description": "Yes",
            "headers": {
                "X-Auth-User-Id": {"schema": {"type": "string"}},
                "X-Auth-Role": {"schema": {"type": "string"}},
                "X-Auth-Session-Id": {"schema": {"type": "string"}},
            },
        },
        **responses(*SIGNED_IN, InvalidInput, Forbidden, CrossSiteRequest),
    },
)
async def verify(user: CurrentUser, claims: AccessToken, demand: Annotated[Demand, Query()]) -> Response:
    """For the forward authentication of proxies: nginx's `auth_request`, Traefik, Caddy.

    The method of the original request is in `X-Forwarded-Method` or `X-Original-Method`.
    """
    if demand.role is not None and user.role != demand.role:
        raise Forbidden
    headers = {"X-Auth-User-Id": str(user.id), "X-Auth-Role": user.role}
    if claims.session_id is not None:
        headers["X-Auth-Session-Id"] = str(claims.session_id)
    return Response(status_code=204, headers=headers)
