"""Pages of long lists, by keyset: each begins after the last one of the page before."""

from typing import Annotated, Final

from fastapi import Query, Request

MAX_ID: Final = 2**63 - 1
Limit = Annotated[int, Query(ge=1, le=1000)]


def next_page(request: Request, **position: int) -> str:
    """A `Link` header (RFC 8288), relative, as the outside address may be a proxy's."""
    url = request.url.include_query_params(**position)
    return f'<{url.path}?{url.query}>; rel="next"'
