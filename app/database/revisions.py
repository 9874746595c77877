"""The revisions of the schema that this code knows.

Read from Alembic's files without Alembic, which would take 9 MiB of each worker's memory.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
_NAMES: Final = ("revision", "down_revision")


@cache
def known_revisions() -> tuple[str, ...]:
    """Oldest first."""
    follower = dict(_read(file) for file in (PROJECT / "alembic" / "versions").glob("*.py"))
    known: list[str] = []
    while (following := follower.get(known[-1] if known else None)) is not None:
        known.append(following)
    return tuple(known)


def _read(file: Path) -> tuple[str | None, str]:
    """The revision that it follows (None for the first), and its own."""
    values = {
        name.id: ast.literal_eval(statement.value)
        for statement in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign)
        for name in statement.targets
        if isinstance(name, ast.Name) and name.id in _NAMES
    }
    return values["down_revision"], values["revision"]
