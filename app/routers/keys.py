from typing import Annotated

from fastapi import APIRouter, Path

from app.errors import CrossSiteRequest, Forbidden, InvalidInput, NotFound, PayloadTooLarge
from app.http.authentication import AdminOnly, CurrentAdmin
from app.http.dependencies import KeyAdminServiceDep, RewrapServiceDep
from app.http.routing import Route
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.fields import Text
from app.schemas.keys import KeyOut, KeyPreparation, KeyRevocation, KeyRotation, RewrappedOut

router = APIRouter(
    prefix="/api/v1/admin/keys", tags=["administration"], route_class=Route, dependencies=[AdminOnly]
)
_ACT = (*SIGNED_IN, Forbidden, CrossSiteRequest)
_CHANGE = (*_ACT, InvalidInput, PayloadTooLarge)


@router.get("", summary="Signing keys", responses=responses(*SIGNED_IN, Forbidden))
def list_keys(keys: KeyAdminServiceDep) -> list[KeyOut]:
    """In the order in which they sign."""
    return [KeyOut.model_validate(each) for each in keys.list()]


@router.post("/prepare", summary="Publish a key before the algorithm changes", responses=responses(*_CHANGE))
def prepare_key(preparation: KeyPreparation, actor: CurrentAdmin, keys: KeyAdminServiceDep) -> KeyOut:
    """Where there is a key of that algorithm already, it is that one."""
    return KeyOut.model_validate(keys.prepare(actor, preparation.algorithm))


@router.post("/rotate", summary="Make the next signing key", responses=responses(*_CHANGE))
def rotate_key(rotation: KeyRotation, actor: CurrentAdmin, keys: KeyAdminServiceDep) -> KeyOut:
    """Where the next key is published already, it is that one."""
    return KeyOut.model_validate(keys.rotate(actor, at_once=rotation.now))


@router.post("/rewrap", summary="Encrypt all keys with today's SECRET_KEY", responses=responses(*_ACT))
def rewrap_keys(actor: CurrentAdmin, rewrapping: RewrapServiceDep) -> RewrappedOut:
    """Once every worker has it."""
    return RewrappedOut.model_validate(rewrapping.rewrap(actor))


@router.post("/{kid}/revoke", summary="Revoke a signing key", responses=responses(*_CHANGE, NotFound))
def revoke_key(
    kid: Annotated[Text, Path(max_length=100)],
    revocation: KeyRevocation,
    actor: CurrentAdmin,
    keys: KeyAdminServiceDep,
) -> KeyOut:
    """Its tokens are refused within a minute. If it was the one that signs, a new one does so at once."""
    return KeyOut.model_validate(keys.revoke(actor, kid, revocation.reason))
