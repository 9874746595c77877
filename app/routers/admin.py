from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import TypeAdapter

from app.errors import (
    CrossSiteRequest,
    EmailTaken,
    Forbidden,
    InvalidInput,
    LastAdmin,
    MailNotConfigured,
    NotFound,
    PasswordTooCommon,
    PayloadTooLarge,
)
from app.http.authentication import AdminOnly, CurrentAdmin
from app.http.dependencies import AdminServiceDep, PasswordRecoveryServiceDep, SessionAdminServiceDep
from app.http.pages import LINK, MAX_ID, MAX_LIMIT, AfterSession, Limit, page_of
from app.http.routing import Route
from app.models.users import Role
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.fields import Text
from app.schemas.sessions import SessionOut
from app.schemas.users import AdminNewUser, RoleChange, UserChange, UserOut
from app.services.accounts.admin import UserFilter
from app.services.protection.password_policy import NewPassword

router = APIRouter(
    prefix="/api/v1/admin/users", tags=["administration"], route_class=Route, dependencies=[AdminOnly]
)
UserId = Annotated[int, Path(ge=1, le=MAX_ID)]
_USERS = TypeAdapter(list[UserOut])
_READ = (*SIGNED_IN, Forbidden, InvalidInput)
_CHANGE = (*_READ, CrossSiteRequest, NotFound)
_HEADERS: dict[str, Any] = {
    **LINK,
    "X-Total-Count": {"description": "Only with `count=true`.", "schema": {"type": "string"}},
}


@router.get("", summary="List users", responses={200: {"headers": _HEADERS}, **responses(*_READ)})
def list_users(
    *,
    admin: AdminServiceDep,
    request: Request,
    response: Response,
    limit: Limit = MAX_LIMIT,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="The last id of the previous page.")] = 0,
    q: Annotated[Text | None, Query(max_length=254, description="Prefix of the email.")] = None,
    role: Role | None = None,
    is_active: bool | None = None,
    count: Annotated[bool, Query(description="Return X-Total-Count; slow if many users match.")] = False,
) -> list[UserOut]:
    """Ordered by id."""
    filters = UserFilter(q=q, role=role, is_active=is_active)
    accounts = admin.list(filters, after=after, limit=limit + 1)
    if count:
        response.headers["X-Total-Count"] = str(admin.count(filters))
    return _USERS.validate_python(page_of(accounts, limit, "after", request, response))


@router.post(
    "",
    status_code=201,
    summary="Open an account for somebody",
    responses=responses(
        *_READ, PasswordTooCommon, CrossSiteRequest, EmailTaken, PayloadTooLarge, MailNotConfigured
    ),
)
def create_user(new_user: AdminNewUser, actor: CurrentAdmin, admin: AdminServiceDep) -> UserOut:
    """With a password the user can log in at once.

    With `invite: true` they choose it themselves, by the link of a mail that is good for 72 hours.
    """
    if new_user.password is None:
        return UserOut.model_validate(admin.invite(actor, new_user.email, new_user.role))
    password = NewPassword(new_user.password.get_secret_value(), new_user.email)
    return UserOut.model_validate(admin.create(actor, password, new_user.role))


@router.get("/{user_id}", summary="Look at a user", responses=responses(*_READ, NotFound))
def read_user(user_id: UserId, admin: AdminServiceDep) -> UserOut:
    """As the database has them now."""
    return UserOut.model_validate(admin.get(user_id))


@router.patch(
    "/{user_id}",
    summary="Change role or activity",
    responses=responses(*_CHANGE, LastAdmin, PayloadTooLarge),
)
def change_user(user_id: UserId, change: UserChange, actor: CurrentAdmin, admin: AdminServiceDep) -> UserOut:
    """Disabling a user ends all their sessions. The last active admin cannot be demoted or disabled."""
    account = admin.change(actor, user_id, role=change.role, is_active=change.is_active)
    return UserOut.model_validate(account)


@router.patch(
    "/{user_id}/role",
    summary="Change the role",
    responses=responses(*_CHANGE, LastAdmin, PayloadTooLarge),
)
def change_role(user_id: UserId, change: RoleChange, actor: CurrentAdmin, admin: AdminServiceDep) -> UserOut:
    """The user's next access token contains the new role; this API uses it immediately."""
    return UserOut.model_validate(admin.change(actor, user_id, role=change.role))


@router.delete(
    "/{user_id}", status_code=204, summary="Delete a user", responses=responses(*_CHANGE, LastAdmin)
)
def delete_user(user_id: UserId, actor: CurrentAdmin, admin: AdminServiceDep) -> None:
    """The account and its sessions are gone; the email can be registered again."""
    admin.delete(actor, user_id)


@router.post(
    "/{user_id}/password-reset",
    status_code=202,
    response_class=Response,
    summary="Let a user choose a new password",
    responses=responses(*_CHANGE, MailNotConfigured),
)
def start_password_reset(
    user_id: UserId, actor: CurrentAdmin, admin: AdminServiceDep, recovery: PasswordRecoveryServiceDep
) -> Response:
    """Mails them a link, good once and for 30 minutes. Until they follow it, nothing changes."""
    recovery.start(actor, admin.get(user_id))
    return Response(status_code=202)


@router.get(
    "/{user_id}/sessions",
    summary="A user's sessions",
    responses={200: {"headers": LINK}, **responses(*_READ, NotFound)},
)
def list_sessions_of(
    user_id: UserId,
    sessions: SessionAdminServiceDep,
    request: Request,
    response: Response,
    limit: Limit = 100,
    after: AfterSession = None,
) -> list[SessionOut]:
    """Active sessions, most recently used first."""
    rows = sessions.list_active(user_id, after, limit + 1)
    return [SessionOut.model_validate(row) for row in page_of(rows, limit, "after", request, response)]


@router.delete(
    "/{user_id}/sessions",
    status_code=204,
    summary="End a user's sessions",
    responses=responses(*_CHANGE),
)
def end_sessions_of(user_id: UserId, actor: CurrentAdmin, sessions: SessionAdminServiceDep) -> None:
    """The user is signed out everywhere."""
    sessions.revoke(actor, user_id)
