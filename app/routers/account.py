from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.errors import (
    CrossSiteRequest,
    EmailTaken,
    Forbidden,
    InvalidCredentials,
    InvalidInput,
    LastAdmin,
    MailNotConfigured,
    NotFound,
    PasswordTooCommon,
    PayloadTooLarge,
    TooManyRequests,
)
from app.http.authentication import AccessToken, CameByCookie, CurrentActor, CurrentUser, NoGuest, SignedIn
from app.http.dependencies import (
    AccountClosureServiceDep,
    AuthCookiesDep,
    CurrentClient,
    EmailServiceDep,
    OwnPasswordServiceDep,
    RevocationServiceDep,
    SessionServiceDep,
)
from app.http.openapi import SET_COOKIE
from app.http.pages import LINK, AfterSession, Limit, page_of
from app.http.routing import Route
from app.http.token_response import token_response
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.sessions import EndedSessionOut, SessionOut, TokenPairOut
from app.schemas.users import EmailChange, PasswordChange, PasswordProof
from app.services.protection.password_policy import NewPassword

_MINE = (*SIGNED_IN, Forbidden)
_WITH_PASSWORD = (
    *_MINE,
    InvalidInput,
    InvalidCredentials,
    CrossSiteRequest,
    PayloadTooLarge,
    TooManyRequests,
)

router = APIRouter(
    prefix="/api/v1/me", tags=["my account"], route_class=Route, dependencies=[SignedIn, NoGuest]
)


@router.put(
    "/password",
    summary="Change my password",
    response_model=TokenPairOut,
    responses={
        200: {"headers": SET_COOKIE},
        204: {"description": "Changed, with an access token that belongs to no session"},
        **responses(*_WITH_PASSWORD, PasswordTooCommon),
    },
)
def change_password(
    change: PasswordChange,
    account: CurrentUser,
    user: CurrentActor,
    passwords: OwnPasswordServiceDep,
    cookies: AuthCookiesDep,
) -> Response:
    """All sessions end, this one too. The pair of the answer is of a new one."""
    new = NewPassword(change.new_password.get_secret_value(), account.email, "new_password")
    pair = passwords.change(user, change.current_password.get_secret_value(), new)
    return token_response(pair, cookies) if pair else Response(status_code=204)


@router.put(
    "/email",
    status_code=202,
    response_class=Response,
    summary="Change my email",
    responses=responses(*_WITH_PASSWORD, EmailTaken, MailNotConfigured),
)
def change_email(change: EmailChange, user: CurrentActor, emails: EmailServiceDep) -> Response:
    """Mails a link to the new address; the account gets it when the link is followed, within 24 hours.

    The old address gets a mail with a way back, for 72 hours. Sessions live on.
    """
    emails.request_change(user, change.new_email, change.password.get_secret_value())
    return Response(status_code=202)


@router.post(
    "/email/verification",
    status_code=202,
    response_class=Response,
    summary="Send the mail that confirms my email again",
    responses={
        204: {"description": "The email is confirmed already"},
        **responses(*_MINE, CrossSiteRequest, TooManyRequests, MailNotConfigured),
    },
)
def send_verification(account: CurrentUser, emails: EmailServiceDep, client: CurrentClient) -> Response:
    """A newer link replaces the older one."""
    return Response(status_code=202 if emails.send_verification(account, client) else 204)


@router.post(
    "/delete",
    status_code=204,
    summary="Delete my account",
    responses={204: {"headers": SET_COOKIE}, **responses(*_WITH_PASSWORD, LastAdmin)},
)
def delete_account(
    proof: PasswordProof, user: CurrentActor, closure: AccountClosureServiceDep, cookies: AuthCookiesDep
) -> Response:
    """Deletes the account and its sessions permanently. The email can be registered again."""
    closure.close(user, proof.password.get_secret_value())
    response = Response(status_code=204)
    cookies.clear(response, device=True)
    return response


@router.get(
    "/sessions",
    summary="My sessions",
    responses={200: {"headers": LINK}, **responses(*_MINE, InvalidInput)},
)
def list_sessions(
    user: CurrentUser,
    claims: AccessToken,
    sessions: SessionServiceDep,
    request: Request,
    response: Response,
    limit: Limit = 100,
    after: AfterSession = None,
) -> list[SessionOut]:
    """Active sessions, most recently used first."""
    rows = page_of(sessions.list_active(user.id, after, limit + 1), limit, "after", request, response)
    found = [SessionOut.model_validate(row) for row in rows]
    return [each.model_copy(update={"current": each.id == claims.session_id}) for each in found]


@router.get("/sessions/ended", summary="Why was I signed out?", responses=responses(*_MINE))
def list_ended_sessions(user: CurrentUser, sessions: SessionServiceDep) -> list[EndedSessionOut]:
    """The last 20 revoked sessions with the reason, for `REVOKED_SESSION_RETENTION_DAYS`."""
    return [EndedSessionOut.model_validate(row) for row in sessions.list_ended(user.id)]


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    summary="End one of my sessions",
    responses=responses(*_MINE, InvalidInput, CrossSiteRequest, NotFound),
)
def end_session(
    session_id: UUID,
    user: CurrentActor,
    claims: AccessToken,
    revocation: RevocationServiceDep,
    came_by_cookie: CameByCookie,
    cookies: AuthCookiesDep,
) -> Response:
    """If it is this one, the cookies go too."""
    revocation.log_out_of(user, session_id)
    response = Response(status_code=204)
    if session_id == claims.session_id and came_by_cookie:
        cookies.clear(response)
    return response


@router.delete(
    "/sessions",
    status_code=204,
    summary="End my other sessions",
    responses=responses(*_MINE, CrossSiteRequest),
)
def end_other_sessions(user: CurrentActor, claims: AccessToken, revocation: RevocationServiceDep) -> None:
    """All but the one that asks."""
    revocation.log_out_of_others(user, claims.session_id)
