"""`Annotated` dependencies for route handlers."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from app.config import Settings
from app.container import Container
from app.http.access_tokens import AccessTokens
from app.http.client import client_of
from app.http.cookies import AuthCookies
from app.services.accounts.admin import AdminService
from app.services.accounts.registration import RegistrationService
from app.services.credentials.account_closure import AccountClosureService
from app.services.credentials.emails import EmailService
from app.services.credentials.password_recovery import PasswordRecoveryService
from app.services.delivery.hub import RevocationHub
from app.services.delivery.mail_files import MailFolder
from app.services.delivery.revocations import RevocationFeed
from app.services.keys.admin import KeyAdminService
from app.services.keys.rewrapping import RewrapService
from app.services.keys.signing import SigningKeys
from app.services.operations.audit import AuditService, Client
from app.services.operations.health import HealthService
from app.services.sessions.admin import SessionAdminService
from app.services.sessions.introspection import IntrospectionService
from app.services.sessions.listing import SessionService
from app.services.sessions.login import LoginService
from app.services.sessions.own_password import OwnPasswordService
from app.services.sessions.revocation import RevocationService
from app.services.sessions.rotation import RotationService
from app.telemetry.metrics import Metrics


def container_of(request: Request) -> Container:
    container: Container = request.app.state.container
    return container


def cookies_of(request: Request) -> AuthCookies:
    return AuthCookies(request.app.state.cookie_policy, request)


def access_tokens_of(request: Request) -> AccessTokens:
    tokens: AccessTokens = request.app.state.access_tokens
    return tokens


def _from_container(get: Callable[[Container], Any]) -> Any:
    async def provide(request: Request) -> Any:
        return get(container_of(request))

    return Depends(provide)


RegistrationServiceDep = Annotated[RegistrationService, _from_container(lambda c: c.registration)]
AdminServiceDep = Annotated[AdminService, _from_container(lambda c: c.admin)]
OwnPasswordServiceDep = Annotated[OwnPasswordService, _from_container(lambda c: c.own_password)]
AccountClosureServiceDep = Annotated[AccountClosureService, _from_container(lambda c: c.account_closure)]
PasswordRecoveryServiceDep = Annotated[
    PasswordRecoveryService, _from_container(lambda c: c.password_recovery)
]
EmailServiceDep = Annotated[EmailService, _from_container(lambda c: c.emails)]
LoginServiceDep = Annotated[LoginService, _from_container(lambda c: c.login)]
RotationServiceDep = Annotated[RotationService, _from_container(lambda c: c.rotation)]
RevocationServiceDep = Annotated[RevocationService, _from_container(lambda c: c.revocation)]
SessionServiceDep = Annotated[SessionService, _from_container(lambda c: c.sessions)]
SessionAdminServiceDep = Annotated[SessionAdminService, _from_container(lambda c: c.session_admin)]
RevocationFeedDep = Annotated[RevocationFeed, _from_container(lambda c: c.revocation_feed)]
RevocationHubDep = Annotated[RevocationHub, _from_container(lambda c: c.revocation_hub)]
IntrospectionServiceDep = Annotated[IntrospectionService, _from_container(lambda c: c.introspection)]
AuditServiceDep = Annotated[AuditService, _from_container(lambda c: c.audit)]
KeyAdminServiceDep = Annotated[KeyAdminService, _from_container(lambda c: c.key_admin)]
RewrapServiceDep = Annotated[RewrapService, _from_container(lambda c: c.rewrapping)]
SigningKeysDep = Annotated[SigningKeys, _from_container(lambda c: c.signing_keys)]
HealthServiceDep = Annotated[HealthService, _from_container(lambda c: c.health)]
MailFolderDep = Annotated[MailFolder | None, _from_container(lambda c: c.mail_folder)]
MetricsDep = Annotated[Metrics, _from_container(lambda c: c.metrics)]


async def _settings(request: Request) -> Settings:
    return container_of(request).settings


SettingsDep = Annotated[Settings, Depends(_settings)]


async def _client(request: Request) -> Client:
    return client_of(request)


async def _cookies(request: Request) -> AuthCookies:
    return cookies_of(request)


CurrentClient = Annotated[Client, Depends(_client)]
AuthCookiesDep = Annotated[AuthCookies, Depends(_cookies)]
