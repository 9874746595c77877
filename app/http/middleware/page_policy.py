import base64
import hashlib
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_POLICY: Final = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PagePolicyMiddleware:
    """Gives the documentation's pages a Content-Security-Policy that they work under.

    They are all the HTML that has none of its own, and nothing in them comes from a request: their inline
    scripts are allowed by hash (CSP Level 3 §2.3.1). Swagger UI and ReDoc need inline styles, and ReDoc a
    worker.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None

        async def add(message: Message) -> None:
            nonlocal start
            if _begins_page(message):
                start = message
                return
            if start is not None:
                policy = (b"content-security-policy", policy_of(message["body"]))
                await send({**start, "headers": [*start["headers"], policy]})
                start = None
            await send(message)

        await self._app(scope, receive, add)


def policy_of(page: bytes) -> bytes:
    digests = (hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return _POLICY.format(hashes=hashes).encode()


def _begins_page(message: Message) -> bool:
    if message["type"] != "http.response.start":
        return False
    headers = dict(message["headers"])
    is_page = headers.get(b"content-type", b"").startswith(b"text/html")
    return is_page and b"content-security-policy" not in headers
