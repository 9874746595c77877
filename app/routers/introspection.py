from typing import Annotated

from fastapi import APIRouter, Depends, Form

from app.errors import Forbidden, InvalidInput, InvalidToken, NotAuthenticated, PayloadTooLarge, Unavailable
from app.http.dependencies import IntrospectionServiceDep, SettingsDep
from app.http.routing import Route
from app.http.service_tokens import ServiceTokenRequired
from app.models.service_tokens import Scope
from app.models.users import Role
from app.schemas.errors import responses
from app.schemas.introspection import ActiveToken, InactiveToken, IntrospectionRequest

router = APIRouter(
    prefix="/api/v1/introspect",
    tags=["siblings"],
    route_class=Route,
    dependencies=[Depends(ServiceTokenRequired(Scope.INTROSPECT))],
)


@router.post(
    "",
    summary="Is this access token good now?",
    response_model_exclude_none=True,
    responses=responses(
        InvalidInput, NotAuthenticated, InvalidToken, Forbidden, PayloadTooLarge, Unavailable
    ),
)
def introspect(
    form: Annotated[IntrospectionRequest, Form()],
    introspection: IntrospectionServiceDep,
    settings: SettingsDep,
) -> ActiveToken | InactiveToken:
    """RFC 7662: session and user as they are now. Nothing is said of a token that is not active."""
    found = introspection.introspect(form.token.get_secret_value())
    if found is None:
        return InactiveToken()
    claims = found.claims
    return ActiveToken(
        iss=settings.jwt_issuer,
        aud=settings.jwt_audience,
        sub=str(claims.user_id),
        role=Role(found.role),
        sid=claims.session_id,
        jti=claims.token_id,
        iat=claims.issued_at,
        exp=claims.expires_at,
    )
