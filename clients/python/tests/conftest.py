"""A service of the tests, over real sockets."""

from collections.abc import Iterator

import pytest

from fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
