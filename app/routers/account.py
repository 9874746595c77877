from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.dependencies import (
    AccessToken,
    CurrentActor,
    CurrentUser,
    came_by_cookie,
    services_of,
)
from app.errors import (
    CrossSiteRequest,
    InvalidCredentials,
    InvalidInput,
    LastAdmin,
    NotFound,
    PayloadTooLarge,
)
from app.schemas.cookies import clear_auth_cookies, set_auth_cookies
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.sessions import EndedSessionOut, SessionOut, TokenPairOut
from app.schemas.users import PasswordChange, PasswordProof

router = APIRouter(prefix="/api/v1/me", tags=["my account"])


@router.put(
    "/password",
    status_code=204,
    summary="Change my password",
    responses=responses(*SIGNED_IN, InvalidInput, InvalidCredentials, CrossSiteRequest, PayloadTooLarge),
)
async def change_password(
    change: PasswordChange, actor: CurrentActor, claims: AccessToken, request: Request
) -> Response:
    """All other sessions end. A browser gets a new pair in its cookies; other clients keep theirs."""
    services = services_of(request)
    current, new = change.current_password.get_secret_value(), change.new_password.get_secret_value()
    services.users.passwords.check_new(new, "new_password")
    await services.fence.run(services.account.change_password, actor, current, new, claims.session_id)
    response = Response(status_code=204)
    if came_by_cookie(request) and claims.session_id is not None:
        pair = await services.threads.run(
            services.rotation.renew, claims.user_id, claims.session_id, actor.client
        )
        if pair is not None:
            set_auth_cookies(response, TokenPairOut.model_validate(pair), services.settings)
    return response


@router.post(
    "/delete",
    status_code=204,
    summary="Delete my account",
    responses=responses(
        *SIGNED_IN, InvalidInput, InvalidCredentials, CrossSiteRequest, LastAdmin, PayloadTooLarge
    ),
)
async def delete_account(proof: PasswordProof, actor: CurrentActor, request: Request) -> Response:
    """The account and its sessions are gone for good; the email is free again."""
    services = services_of(request)
    await services.fence.run(services.account.delete, actor, proof.password.get_secret_value())
    response = Response(status_code=204)
    clear_auth_cookies(response, services.settings)
    return response


@router.get("/sessions", summary="My sessions", responses=responses(*SIGNED_IN))
async def list_sessions(user: CurrentUser, claims: AccessToken, request: Request) -> list[SessionOut]:
    """Those that live, the last used first."""
    services = services_of(request)
    rows = await services.threads.run(services.sessions.list_live, user.id)
    found = [SessionOut.model_validate(row) for row in rows]
    return [each.model_copy(update={"current": each.id == claims.session_id}) for each in found]


@router.get("/sessions/ended", summary="Why was I signed out?", responses=responses(*SIGNED_IN))
async def list_ended_sessions(user: CurrentUser, request: Request) -> list[EndedSessionOut]:
    """The last 20 that were ended, with the reason; they are kept for `REVOKED_SESSION_RETENTION_DAYS`."""
    services = services_of(request)
    rows = await services.threads.run(services.sessions.list_ended, user.id)
    return [EndedSessionOut.model_validate(row) for row in rows]


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    summary="End one of my sessions",
    responses=responses(*SIGNED_IN, InvalidInput, CrossSiteRequest, NotFound),
)
async def end_session(
    session_id: UUID, actor: CurrentActor, claims: AccessToken, request: Request
) -> Response:
    services = services_of(request)
    await services.threads.run(services.sessions.log_out_of, claims.user_id, session_id, actor.client)
    response = Response(status_code=204)
    if session_id == claims.session_id and came_by_cookie(request):
        clear_auth_cookies(response, services.settings)
    return response


@router.delete(
    "/sessions",
    status_code=204,
    summary="End my other sessions",
    responses=responses(*SIGNED_IN, CrossSiteRequest),
)
async def end_other_sessions(actor: CurrentActor, claims: AccessToken, request: Request) -> None:
    services = services_of(request)
    await services.threads.run(
        services.sessions.log_out_of_others, claims.user_id, claims.session_id, actor.client
    )
