import asyncio
from time import monotonic
from typing import Final

from fastapi import APIRouter, Response

from app.errors import (
    EmailTaken,
    InvalidInput,
    InvalidLink,
    MailNotConfigured,
    PasswordTooCommon,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
)
from app.greenlets import await_
from app.http.dependencies import CurrentClient, EmailServiceDep, PasswordRecoveryServiceDep
from app.http.routing import Route
from app.schemas.errors import responses
from app.schemas.users import Forgotten, LinkToken, PasswordReset

router = APIRouter(prefix="/api/v1", tags=["recovery"], route_class=Route)
_FORGOT_SECONDS: Final = 0.15
"""More than it takes: its own time would tell something, if only that a mail before it is being sent."""
_SPENDS = (InvalidInput, InvalidLink, PayloadTooLarge, Unavailable)


@router.post(
    "/password/forgot",
    status_code=202,
    response_class=Response,
    summary="I forgot my password",
    responses=responses(InvalidInput, PayloadTooLarge, TooManyRequests, Unavailable, MailNotConfigured),
)
def forgot_password(
    forgotten: Forgotten, recovery: PasswordRecoveryServiceDep, client: CurrentClient
) -> Response:
    """Mails the owner of the account a link, good once and for 30 minutes. A newer one replaces it.

    The answer is the same whether there is such an account or not.
    """
    begin = monotonic()
    recovery.request(forgotten.email, client)
    await_(asyncio.sleep(max(0, begin + _FORGOT_SECONDS - monotonic())))
    return Response(status_code=202)


@router.post(
    "/password/reset",
    status_code=204,
    summary="Choose a password by the link of a mail",
    responses=responses(*_SPENDS, PasswordTooCommon),
)
def reset_password(reset: PasswordReset, recovery: PasswordRecoveryServiceDep, client: CurrentClient) -> None:
    """Also the first one of who was invited. All sessions of the account end."""
    recovery.reset(reset.token, reset.new_password.get_secret_value(), client)


@router.post(
    "/email/verify",
    status_code=204,
    summary="Confirm an email by the link of a mail",
    responses=responses(*_SPENDS, EmailTaken),
)
def verify_email(link: LinkToken, emails: EmailServiceDep, client: CurrentClient) -> None:
    """The email of an account, or a new one: the account gets it now, and its sessions live on."""
    emails.confirm(link.token, client)


@router.post(
    "/email/restore",
    status_code=204,
    summary="Keep, or go back to, the old email",
    responses=responses(*_SPENDS, EmailTaken),
)
def restore_email(link: LinkToken, emails: EmailServiceDep, client: CurrentClient) -> None:
    """All sessions of the account end, and its password works no more: somebody else knows it. The mail that
    follows has a link to choose another one."""
    emails.restore(link.token, client)
