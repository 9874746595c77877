"""A dependency for FastAPI, and answers in the service's shape."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kanban_auth_verify.claims import AccessClaims
from kanban_auth_verify.errors import AuthError, Forbidden, NotAuthenticated
from kanban_auth_verify.verifier import AsyncVerifier

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class Refused(HTTPException):
    """Without `install_error_handler` the body has no `code`, and the rest is right."""

    def __init__(self, error: AuthError) -> None:
        super().__init__(error.status, error.message, error.headers)
        self.error = error


def signed_in(verifier: AsyncVerifier, *, role: str | None = None) -> Callable[..., Awaitable[AccessClaims]]:
    """For `Depends`: the claims of the Bearer token (RFC 6750 §2.1). `role` is the one that it must have."""

    async def claims_of_bearer(credentials: _Credentials) -> AccessClaims:
        try:
            if credentials is None or not credentials.credentials:
                raise NotAuthenticated
            claims = await verifier.verify(credentials.credentials)
            if role is not None and claims.role != role:
                raise Forbidden(f"not {role}")
        except AuthError as error:
            raise Refused(error) from error
        return claims

    return claims_of_bearer


def install_error_handler(app: FastAPI) -> None:
    app.add_exception_handler(Refused, _respond)


async def _respond(_: Request, refused: Exception) -> JSONResponse:
    assert isinstance(refused, Refused)
    error = refused.error
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)
