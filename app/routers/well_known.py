"""What siblings and libraries look for under `/.well-known/` (RFC 8615)."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from app.errors import NotFound, Unavailable
from app.http.dependencies import SettingsDep, SigningKeysDep
from app.http.routing import Route
from app.schemas.errors import responses
from app.schemas.well_known import JwkSet, ServerMetadata, metadata_of

_JWKS: Final = "/.well-known/jwks.json"
_METADATA: Final = "/.well-known/oauth-authorization-server"
_HEADERS: Final[dict[str, Any]] = {
    "Cache-Control": {"description": "How long it may be cached.", "schema": {"type": "string"}},
    "ETag": {"schema": {"type": "string"}},
}

router = APIRouter(tags=["siblings"], route_class=Route)


@router.get(
    _JWKS,
    summary="The public keys of access tokens",
    response_model=JwkSet,
    responses={
        200: {"headers": _HEADERS},
        304: {"description": "As `If-None-Match` knows it"},
        **responses(Unavailable),
    },
)
async def read_key_set(request: Request, keys: SigningKeysDep, settings: SettingsDep) -> Response:
    """A JWK set (RFC 7517). Empty where access tokens are signed with a shared secret."""
    body, etag = keys.key_set()
    headers = {"Cache-Control": f"public, max-age={settings.jwks_max_age_seconds}", "ETag": etag}
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


@router.get(
    _METADATA,
    summary="Where what is (RFC 8414)",
    responses=responses(NotFound),
    response_model_exclude_none=True,
)
async def read_server_metadata(settings: SettingsDep) -> ServerMetadata:
    """404 unless `JWT_ISSUER` is an https URL, as RFC 8414 requires one."""
    return metadata_of(settings.jwt_issuer)


def _matches(if_none_match: str, etag: str) -> bool:
    """RFC 9110 §13.1.2: weak comparison."""
    given = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return etag in given or given == ["*"]
