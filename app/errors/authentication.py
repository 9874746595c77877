"""Missing, wrong or outdated credentials."""

from typing import Final

from app.errors.families import Forbidden, TooManyRequests, Unauthenticated


class InvalidCredentials(Unauthenticated):
    code = "invalid_credentials"
    message = "Incorrect email or password"


class TooManyFailures(TooManyRequests):
    """So many failures in a row that no more attempts are accepted; see `services/protection/guesses`."""

    message = (
        "Too many failed attempts in a row. Log in on a device that you have used before, "
        "or have your password reset"
    )

    def __init__(self) -> None:
        super().__init__("failures", None)


class NotAuthenticated(Unauthenticated):
    code = "not_authenticated"
    message = "Not authenticated"


class TokenRefused(Unauthenticated):
    """A token was sent, but it is not valid."""


class InvalidToken(TokenRefused):
    code = "invalid_token"
    message = "Invalid access token"


class UnknownKey(InvalidToken):
    """The token's `kid` is not known; another replica may have made that key a moment ago."""


class TokenExpired(TokenRefused):
    code = "token_expired"
    message = "Access token expired"


class TokenRevoked(TokenRefused):
    code = "token_revoked"
    message = "The session of this access token has ended"


class InvalidRefreshToken(TokenRefused):
    code = "invalid_refresh_token"
    message = "Invalid refresh token"


class RefreshTokenReused(TokenRefused):
    code = "refresh_token_reused"
    message = "Refresh token invalid or reused"


class EmailNotVerified(Forbidden):
    """The password was right."""

    code = "email_not_verified"
    message = "Confirm your email first, by the link that was sent to it"


_NO_ORIGIN: Final = (
    "browsers say null for a file, in a sandboxed frame, after a redirect from another site, and for a form "
    "where Referrer-Policy is no-referrer; if the page is one of ours, give it the policy same-origin"
)


class CrossSiteRequest(Forbidden):
    code = "cross_site_request"
    message = "Cookies from another site are not accepted; send a Bearer token"

    def __init__(self, origin: str | None, host: str, setting: str | None) -> None:
        """`setting` would let the page in, if it is one of ours. None can where its origin is `null`."""
        super().__init__(origin, host, setting)
        self.origin = origin
        self.host = host
        self.setting = setting

    def __str__(self) -> str:
        said = f"{self.message}. The page's origin is {self.origin or 'not said'}, the host {self.host}"
        if self.setting is None:
            return f"{said}: {_NO_ORIGIN}"
        return f"{said}: if the page is one of ours, {self.setting} has to name that origin"

    @property
    def facts(self) -> dict[str, str | None]:
        """For the log."""
        return {"code": self.code, "origin": self.origin, "host": self.host, "setting": self.setting}
