"""Authentication of sibling services and scrapers by service tokens."""

from collections.abc import Callable

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from app.errors import NotAuthenticated
from app.greenlets import run_in_greenlet
from app.http.authentication import bearer_of
from app.http.dependencies import container_of
from app.models.service_tokens import Scope


class ServiceTokenRequired(SecurityBase):
    """A dependency that admits service tokens with the scope."""

    scheme_name = "ServiceToken"
    model = HTTPBearer(description="Made by `python -m app.cli services create`.")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Callable[[], None]:
        """Returns a function that checks the token again, for answers that last.

        Raises NotAuthenticated, InvalidToken, Forbidden, DatabaseUnavailable.
        """
        if not (token := bearer_of(request)):
            raise NotAuthenticated
        services = container_of(request).service_tokens

        def check() -> None:
            services.authenticate(token, self.scope)

        await run_in_greenlet(check)
        return check
