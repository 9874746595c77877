"""Siblings that verify tokens with the clients of `clients/`."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kanban_auth_verify import AuthError, Verifier

from app.devdb import PROJECT

NODE_JUDGE = PROJECT / "clients" / "typescript" / "dist-test" / "judge.js"
"""Built by `make clients-test`."""

Judge = Callable[[str], str]
"""Answers a token with its user id, or with the code of its error."""


@contextmanager
def python_judge(url: str, service_token: str, shared_secret: str) -> Iterator[Judge]:
    with Verifier(url, service_token=service_token, shared_secret=shared_secret) as verifier:

        def judge(token: str) -> str:
            try:
                return str(verifier.verify(token).user_id)
            except AuthError as error:
                return error.code

        yield judge


@contextmanager
def node_judge(url: str, service_token: str, shared_secret: str) -> Iterator[Judge]:
    own = {"AUTH_URL": url, "AUTH_SERVICE_TOKEN": service_token, "JWT_SECRET": shared_secret}
    node = shutil.which("node") or "node"
    with subprocess.Popen(
        [node, str(NODE_JUDGE)],
        env=os.environ | own,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout

        def judge(token: str) -> str:
            stdin.write(f"{token}\n")
            stdin.flush()
            return stdout.readline().strip()

        yield judge
        stdin.close()


def has_node_judge() -> bool:
    return Path(NODE_JUDGE).exists() and shutil.which("node") is not None
