"""Verifies access tokens. A key that is not known is looked for, as another replica may have just made it."""

import asyncio

from app.container import Container
from app.errors import UnknownKey
from app.greenlets import run_in_greenlet
from app.security.tokens import AccessClaims


class AccessTokens:
    def __init__(self, container: Container) -> None:
        self._container = container
        self._look: asyncio.Task[None] | None = None

    async def verify(self, token: str) -> AccessClaims:
        """Raises InvalidToken, TokenExpired, DatabaseUnavailable."""
        tokens = self._container.tokens
        try:
            return tokens.verify_access(token)
        except UnknownKey:
            await self._look_again()
            return tokens.verify_access(token)

    async def _look_again(self) -> None:
        """One look serves all requests that wait for it."""
        if self._look is None or self._look.done():
            if not self._container.signing_keys.may_look_again():
                return
            self._look = asyncio.create_task(run_in_greenlet(self._container.signing_keys.look_again))
        await asyncio.shield(self._look)
