"""RFC 6749 §5.2: what OAuth libraries read of a refusal, beside our own `detail` and `code`."""

import re
from typing import Any, Final

from app.errors import (
    CrossSiteRequest,
    InternalError,
    NotAuthenticated,
    ServiceError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

_NOT_ALLOWED: Final = re.compile(r'[^\x20-\x7e]|["\\]')
_ERRORS: Final[tuple[tuple[type[ServiceError], str], ...]] = (
    (NotAuthenticated, "invalid_request"),
    (Unauthenticated, "invalid_grant"),
    (CrossSiteRequest, "invalid_request"),
    (TooManyRequests, "temporarily_unavailable"),  # this and the next two are of §4.1.2.1
    (Unavailable, "temporarily_unavailable"),
    (InternalError, "server_error"),
)


def oauth_fields(error: type[ServiceError], detail: str | list[dict[str, Any]]) -> dict[str, str]:
    name = next((name for family, name in _ERRORS if issubclass(error, family)), "invalid_request")
    if isinstance(detail, list):
        if any(problem["loc"] == ["body", "grant_type"] for problem in detail):
            name = "unsupported_grant_type"
        detail = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in detail)
    return {"error": name, "error_description": _NOT_ALLOWED.sub("'", detail)}
