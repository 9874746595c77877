"""Clients that others generate, strictly compiled: `make clients-test`, and not `make test`."""

import os
import subprocess
from pathlib import Path

import pytest

from app.devdb import PROJECT
from tests.support import Api

FOLDER = PROJECT / "clients" / "generated"
PYTHON = FOLDER / ".venv" / "bin" / "python"


def run(*command: str | Path, url: str) -> None:
    done = subprocess.run(
        command,
        cwd=FOLDER,
        env=os.environ | {"AUTH_URL": url, "MYPYPATH": "generated"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def url(api: Api) -> str:
    """Of a service that the generated clients are made for."""
    run("npm", "run", "--silent", "generate", url=api.base_url)
    run(
        *(PYTHON, "-m", "openapi_python_client", "generate", "--overwrite", "--meta", "none"),
        *("--path", "../../docs/openapi.json", "--output-path", "generated/python_client"),
        url=api.base_url,
    )
    run("npm", "run", "--silent", "compile", url=api.base_url)
    return api.base_url


def test_linters_of_openapi_find_nothing() -> None:
    run("npm", "run", "--silent", "lint", url="")


@pytest.mark.parametrize("generator", ["openapi-typescript", "hey-api", "orval"])
def test_a_client_in_typescript_walks_from_registration_to_logout(url: str, generator: str) -> None:
    run("node", f"built/walks/{generator}.js", url=url)


def test_a_client_in_python_walks_from_registration_to_logout(url: str) -> None:
    run(PYTHON, "walks/walk.py", url=url)


def test_the_client_in_python_has_strict_types(url: str) -> None:
    options = ("--strict", "--cache-dir=/dev/null")  # a cache does not notice that all files are new
    run(PYTHON, "-m", "mypy", *options, "generated/python_client", "walks/walk.py", url=url)
