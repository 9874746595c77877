"""What the documents show is what works."""

import re
from pathlib import Path
from typing import Any

import pytest

from fake_server import FakeServer
from kanban_auth_verify import TokenRevoked

CLIENTS = Path(__file__).parents[2]
DOCUMENTS = [CLIENTS / "python" / "README.md", CLIENTS.parent / "docs" / "siblings.md"]
SNIPPETS = [
    pytest.param(snippet, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, snippet in enumerate(
        re.findall(r"(?s)```python\n(.*?)```", document.read_text(encoding="utf-8"))
    )
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_each_snippet_runs(snippet: str, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_SERVICE_TOKEN", server.auth.service_token)
    names: dict[str, Any] = {"token": server.auth.issue_test_token(42)}

    exec(snippet.replace("https://auth.example.com", server.url), names)  # noqa: S102 — our own documents

    verifier = names["verifier"]
    if "FakeAuthService" in snippet:
        with pytest.raises(TokenRevoked):
            verifier.verify(names["token"])
    verifier._close()
