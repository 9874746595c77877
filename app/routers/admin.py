from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.dependencies import CurrentAdmin, current_admin, services_of
from app.errors import (
    CrossSiteRequest,
    EmailTaken,
    Forbidden,
    InvalidInput,
    LastAdmin,
    NotFound,
    PayloadTooLarge,
)
from app.models.users import Role
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.fields import Text
from app.schemas.pages import LINK, MAX_ID, Limit, cut
from app.schemas.sessions import SessionOut
from app.schemas.users import AdminNewUser, RoleChange, UserChange, UserOut
from app.services.admin import UserFilter

router = APIRouter(prefix="/api/v1/admin/users", tags=["administration"])
_ADMIN = [Depends(current_admin)]
UserId = Annotated[int, Path(ge=1, le=MAX_ID)]
_READ = (*SIGNED_IN, Forbidden, InvalidInput)
_CHANGE = (*_READ, CrossSiteRequest, NotFound)
_HEADERS: dict[str, Any] = {
    **LINK,
    "X-Total-Count": {"description": "When `count=true` asks for it.", "schema": {"type": "string"}},
}


@router.get(
    "",
    summary="List users",
    dependencies=_ADMIN,
    responses={200: {"headers": _HEADERS}, **responses(*_READ)},
)
async def list_users(
    *,
    request: Request,
    response: Response,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="The last id of the page before.")] = 0,
    q: Annotated[Text | None, Query(max_length=254, description="How the email begins.")] = None,
    role: Role | None = None,
    is_active: bool | None = None,
    count: Annotated[bool, Query(description="Ask for X-Total-Count; takes its time.")] = False,
) -> list[UserOut]:
    """In the order of their ids."""
    services = services_of(request)
    wanted = UserFilter(q=q, role=role, is_active=is_active)
    accounts = await services.threads.run(services.admin.list, wanted, after=after, limit=limit + 1)
    if count:
        response.headers["X-Total-Count"] = str(await services.threads.run(services.admin.count, wanted))
    return [UserOut.model_validate(each) for each in cut(accounts, limit, "after", request, response)]


@router.post(
    "",
    status_code=201,
    summary="Open an account for somebody",
    responses=responses(*_READ, CrossSiteRequest, EmailTaken, PayloadTooLarge),
)
async def create_user(new_user: AdminNewUser, admin: CurrentAdmin, request: Request) -> UserOut:
    services = services_of(request)
    password = new_user.password.get_secret_value()
    services.users.passwords.check_new(password)
    account = await services.fence.run(services.admin.create, admin, new_user.email, password, new_user.role)
    return UserOut.model_validate(account)


@router.get(
    "/{user_id}", summary="Look at a user", dependencies=_ADMIN, responses=responses(*_READ, NotFound)
)
async def read_user(user_id: UserId, request: Request) -> UserOut:
    services = services_of(request)
    return UserOut.model_validate(await services.threads.run(services.admin.get, user_id))


@router.patch(
    "/{user_id}",
    summary="Change role or activity",
    responses=responses(*_CHANGE, LastAdmin, PayloadTooLarge),
)
async def change_user(user_id: UserId, change: UserChange, admin: CurrentAdmin, request: Request) -> UserOut:
    """Disabling a user ends every session of theirs. The last active admin stays one."""
    services = services_of(request)
    account = await services.threads.run(
        services.admin.change, admin, user_id, role=change.role, is_active=change.is_active
    )
    return UserOut.model_validate(account)


@router.patch(
    "/{user_id}/role",
    summary="Change the role",
    responses=responses(*_CHANGE, LastAdmin, PayloadTooLarge),
)
async def change_role(user_id: UserId, change: RoleChange, admin: CurrentAdmin, request: Request) -> UserOut:
    """It shows in the user's next access token, and at once here."""
    services = services_of(request)
    account = await services.threads.run(services.admin.change, admin, user_id, role=change.role)
    return UserOut.model_validate(account)


@router.delete(
    "/{user_id}", status_code=204, summary="Delete a user", responses=responses(*_CHANGE, LastAdmin)
)
async def delete_user(user_id: UserId, admin: CurrentAdmin, request: Request) -> None:
    services = services_of(request)
    await services.threads.run(services.admin.delete, admin, user_id)


@router.get(
    "/{user_id}/sessions",
    summary="A user's sessions",
    dependencies=_ADMIN,
    responses=responses(*_READ, NotFound),
)
async def list_sessions_of(user_id: UserId, request: Request) -> list[SessionOut]:
    services = services_of(request)
    rows = await services.threads.run(services.admin.list_sessions, user_id)
    return [SessionOut.model_validate(row) for row in rows]


@router.delete(
    "/{user_id}/sessions",
    status_code=204,
    summary="End a user's sessions",
    responses=responses(*_CHANGE),
)
async def end_sessions_of(user_id: UserId, admin: CurrentAdmin, request: Request) -> None:
    services = services_of(request)
    await services.threads.run(services.admin.end_sessions, admin, user_id)
