"""Keyset pagination: each page starts after the last row of the previous page."""

from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query, Request, Response

MAX_ID: Final = 2**63 - 1
MAX_LIMIT: Final = 1000
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
AfterSession = Annotated[UUID | None, Query(description="The id of the last session of the previous page.")]


LINK: Final[dict[str, Any]] = {
    "Link": {"description": 'The next page, `rel="next"` (RFC 8288).', "schema": {"type": "string"}}
}


def page_of(
    rows: Sequence[Any], limit: int, position: str, request: Request, response: Response
) -> Sequence[Any]:
    """At most `limit` rows; `rows` has one more if there is a next page.

    The Link header (RFC 8288) has a relative URL, because a proxy may have another address.
    """
    if len(rows) > limit:
        url = request.url.include_query_params(**{position: rows[limit - 1].id})
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return rows[:limit]
