from fastapi import APIRouter, Request

from app.dependencies import CurrentUser, client_of, services_of
from app.errors import (
    EmailTaken,
    InvalidInput,
    PayloadTooLarge,
    Unavailable,
)
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.users import NewUser, UserOut

router = APIRouter(prefix="/api/v1", tags=["users"])


@router.post(
    "/users/",
    status_code=201,
    summary="Register",
    responses=responses(InvalidInput, EmailTaken, PayloadTooLarge, Unavailable),
)
async def register_user(new_user: NewUser, request: Request) -> UserOut:
    """Opens an account with the role `user`. Log in at `/api/v1/token` next."""
    services = services_of(request)
    password = new_user.password.get_secret_value()
    services.users.passwords.check_new(password)
    account = await services.fence.run(services.users.register, new_user.email, password, client_of(request))
    return UserOut.model_validate(account)


@router.get(
    "/me",
    summary="Who am I?",
    responses=responses(*SIGNED_IN),
)
async def read_current_user(user: CurrentUser) -> UserOut:
    """The account of the access token, as it is now in the database."""
    return UserOut.model_validate(user)
