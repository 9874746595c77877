"""A newcomer's first minutes: the README's commands, in a copy of the project, with an empty home."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from app.devdb import PROJECT
from tests.support import (
    HEALTH,
    PATIENCE_SECONDS,
    bearer,
    clean_environment,
    eventually,
    request,
    reserved_port,
)

README = (PROJECT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.process
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
FILES = ("app", "alembic", "alembic.ini", "Makefile", "requirements", "pyproject.toml", ".env.example")


def commands(containing: str) -> list[str]:
    blocks = re.findall(r"(?s)```sh\n(.*?)```", README)
    (block,) = [block for block in blocks if containing in block]
    text: str = block.replace("\\\n", " ").strip()
    return text.split("\n\n" if "\n\n" in text else "\n")


@pytest.fixture
def copy() -> Iterator[Path]:
    """A checkout whose environment is installed already, as the first `make` of this run did that."""
    folder = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    for name in FILES:
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    (folder / "home").mkdir()
    yield folder
    shutil.rmtree(folder)


@contextmanager
def started(folder: Path, *command: str, ending: signal.Signals) -> Iterator[str]:
    """Run it as in a terminal until it serves; end it as from a terminal, and find nothing left."""
    with reserved_port() as port, running(folder, *command, port=str(port), ending=ending) as base_url:
        yield base_url


@contextmanager
def running(folder: Path, *command: str, port: str, ending: signal.Signals) -> Iterator[str]:
    # A shell lets what runs in its background ignore it, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = clean_environment() | {"HOME": str(folder / "home"), "PORT": port}
    command = tuple(part.replace("8000", port) for part in command)
    with open(folder / "output", "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    base_url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(base_url, process)
        yield base_url
    finally:
        os.killpg(process.pid, ending)
        process.wait(PATIENCE_SECONDS)
    left = [each for each in psutil.process_iter(["cmdline"]) if belongs(each, folder)]
    assert psutil.wait_procs(left, timeout=PATIENCE_SECONDS)[1] == []


def belongs(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in argument for argument in process.info["cmdline"] or [])


def wait_until_healthy(base_url: str, process: "subprocess.Popen[bytes]") -> None:
    def is_healthy() -> bool:
        with suppress(httpx.ConnectError):
            assert request("GET", base_url + HEALTH).status_code == 200
            return True
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"ended with {process.wait(0.05)} before it served")
        return False

    eventually(is_healthy)


def curl(command: str, base_url: str, folder: Path) -> str:
    command = command.replace("http://127.0.0.1:8000", base_url)
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, check=True, text=True
    ).stdout


@pytest.mark.slow
@needs_make
@needs_curl
def test_make_run_serves_the_readmes_first_login(copy: Path) -> None:
    register, log_in, me, refresh, log_out = commands("curl")

    with started(copy, "make", "run", ending=signal.SIGINT) as base_url:
        user = json.loads(curl(register, base_url, copy))
        pair = json.loads(curl(log_in, base_url, copy))
        assert json.loads(curl(me, base_url, copy)) == user
        assert json.loads(curl(refresh, base_url, copy))["refresh_token"] != pair["refresh_token"]
        assert curl(log_out, base_url, copy) == "204\n"
        (_, make_admin) = commands("--role admin")
        curl(f"echo 'a password of hers' | {make_admin} --password-stdin", base_url, copy)
        form = {"username": "grace@example.com", "password": "a password of hers"}
        headers = bearer(request("POST", f"{base_url}/api/v1/token", data=form).json()["access_token"])
        users = request("GET", f"{base_url}/api/v1/admin/users", headers=headers)
        assert users.status_code == 200
        assert f"Swagger UI: {base_url}/docs" in (copy / "output").read_text(encoding="utf-8")

    with started(copy, "make", "run", ending=signal.SIGTERM) as base_url:
        assert json.loads(curl(log_in, base_url, copy))["token_type"] == "bearer"


@pytest.mark.slow
def test_the_readmes_commands_without_make_serve(copy: Path) -> None:
    lines = commands("poetry install")
    assert lines.pop(1) == "poetry install"
    make_env, migrate, serve, test = [line.replace("poetry run ", ".venv/bin/") for line in lines]
    assert test == ".venv/bin/pytest"

    for line in (make_env, migrate):
        subprocess.run(line.split(), cwd=copy, env=clean_environment(), check=True)
    with started(copy, *serve.split(), "--port", "8000", ending=signal.SIGINT) as base_url:
        assert request("GET", f"{base_url}/docs").status_code == 200


@needs_make
def test_make_alone_lists_the_targets() -> None:
    result = subprocess.run(["make"], cwd=PROJECT, capture_output=True, check=True, text=True)

    for target in ("run", "test", "check", "bench"):
        assert re.search(rf"(?m)^{target} +\w", result.stdout)
