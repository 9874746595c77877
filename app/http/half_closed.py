"""Whether a client may send more, while it waits for an answer."""

from typing import Final

from starlette.requests import Request

SENDS_NO_MORE: Final = "client_sends_no_more"
"""Where the state of a request has an event that is set once the client has ended its side."""


async def until_client_sends_no_more(request: Request) -> None:
    """Only once the body has been read. Where another server serves, until the client has left."""
    if (event := getattr(request.state, SENDS_NO_MORE, None)) is not None:
        await event.wait()
    else:
        while (await request.receive())["type"] != "http.disconnect":
            pass


def client_sends_no_more(request: Request) -> bool:
    event = getattr(request.state, SENDS_NO_MORE, None)
    return event is not None and event.is_set()
