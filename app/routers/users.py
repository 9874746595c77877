from fastapi import APIRouter

from app.errors import (
    EmailTaken,
    InvalidInput,
    PasswordTooCommon,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
)
from app.http.authentication import CurrentUser, SignedIn
from app.http.dependencies import CurrentClient, RegistrationServiceDep
from app.http.routing import Route
from app.schemas.errors import SIGNED_IN, responses
from app.schemas.users import NewUser, UserOut

router = APIRouter(prefix="/api/v1/users", tags=["users"], route_class=Route)
me_router = APIRouter(prefix="/api/v1/me", tags=["users"], route_class=Route, dependencies=[SignedIn])


@router.post(
    "/",
    status_code=201,
    summary="Register",
    responses=responses(
        InvalidInput, PasswordTooCommon, EmailTaken, PayloadTooLarge, TooManyRequests, Unavailable
    ),
)
def register_user(new_user: NewUser, registration: RegistrationServiceDep, client: CurrentClient) -> UserOut:
    """Opens an account with the role `user`. Log in at `/api/v1/token` next."""
    account = registration.register(new_user.email, new_user.password.get_secret_value(), client)
    return UserOut.model_validate(account)


@me_router.get("", summary="Who am I?", responses=responses(*SIGNED_IN))
async def read_current_user(user: CurrentUser) -> UserOut:
    """The account of the access token, with its current data from the database."""
    return UserOut.model_validate(user)
