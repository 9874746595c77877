"""A sibling service: its token, and what it hears of revocations."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from app.models.service_tokens import Scope
from app.services.operations.audit import Client, Operator
from tests.support.api import Api, bearer

REVOCATIONS = "/api/v1/revocations"
OPERATOR = Operator(Client(None, "tests"))


class Sibling:
    """Has a service token with all scopes, unless others are given."""

    def __init__(self, api: Api, *scopes: Scope, name: str = "board") -> None:
        self.api = api
        self.token, self.stored = api.operator.service_tokens.create(OPERATOR, name, scopes or tuple(Scope))

    def page(self, **params: Any) -> httpx.Response:
        return self.api.http.get(REVOCATIONS, params=params, headers=bearer(self.token))

    def read(self, after: str | None = None, **params: Any) -> tuple[list[dict[str, Any]], str]:
        """Everything after the cursor, and the next cursor."""
        found: list[dict[str, Any]] = []
        while True:
            response = self.page(**params, **({"after": after} if after else {}))
            assert response.status_code == 200, response.text
            page = response.json()
            found += page["revocations"]
            after = page["cursor"]
            if not page["has_more"]:
                return found, page["cursor"]

    def introspect(self, token: str) -> httpx.Response:
        return self.api.http.post("/api/v1/introspect", data={"token": token}, headers=bearer(self.token))

    @contextmanager
    def stream(
        self, last_event_id: str | None = None, *, of: httpx.Client | None = None
    ) -> Iterator["Stream"]:
        """`of` another replica."""
        headers = bearer(self.token) | {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        with (of or self.api.http).stream("GET", REVOCATIONS, headers=headers) as response:
            assert response.status_code == 200, response.read()
            yield Stream(response)


class Stream:
    """Server-sent events, as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, dict[str, Any]]:
        """The id and the data of the next event."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line and "data" in fields:
                assert fields["event"] == "revocation"
                return fields["id"], json.loads(fields["data"])
            if line.startswith(":"):
                continue
            name, _, value = line.partition(": ")
            fields[name] = value
        raise EOFError

    def ends(self) -> bool:
        """Once the server has closed it."""
        for _ in self._lines:
            pass
        return True
