"""Pages of long lists, by keyset: each begins after the last one of the page before."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response

MAX_ID: Final = 2**63 - 1
Limit = Annotated[int, Query(ge=1, le=1000)]


LINK: Final[dict[str, Any]] = {
    "Link": {"description": 'The next page, `rel="next"` (RFC 8288).', "schema": {"type": "string"}}
}


def cut(
    rows: Sequence[Any], limit: int, position: str, request: Request, response: Response
) -> Sequence[Any]:
    """The page, of rows that are one more than `limit` where another page follows.

    That one is linked to (RFC 8288), relatively, as the outside address may be a proxy's.
    """
    if len(rows) > limit:
        url = request.url.include_query_params(**{position: rows[limit - 1].id})
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return rows[:limit]
