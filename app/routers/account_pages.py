from typing import Annotated

from fastapi import APIRouter, Form, Response

from app.http.account_pages import AccountPageDep, PageRoute, TokenOfForm, TokenOfLink
from app.http.dependencies import CurrentClient, EmailServiceDep, PasswordRecoveryServiceDep
from app.schemas.fields import Password

router = APIRouter(prefix="/account", route_class=PageRoute, include_in_schema=False)


@router.get("/reset")
@router.get("/verify")
@router.get("/email")
@router.get("/restore")
async def ask(token: TokenOfLink, page: AccountPageDep) -> Response:
    return page.ask(token)


@router.post("/reset")
def reset_password(
    token: TokenOfForm,
    new_password: Annotated[Password, Form()],
    recovery: PasswordRecoveryServiceDep,
    client: CurrentClient,
    page: AccountPageDep,
) -> Response:
    recovery.reset(token, new_password.get_secret_value(), client)
    return page.done()


@router.post("/verify")
@router.post("/email")
def confirm_email(
    token: TokenOfForm, emails: EmailServiceDep, client: CurrentClient, page: AccountPageDep
) -> Response:
    emails.confirm(token, client)
    return page.done()


@router.post("/restore")
def restore_email(
    token: TokenOfForm, emails: EmailServiceDep, client: CurrentClient, page: AccountPageDep
) -> Response:
    emails.restore(token, client)
    return page.done()
