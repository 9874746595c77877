"""What a revision may do to a table that millions use; CONTRIBUTING.md says how it does the rest."""

import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory

from tests.support import alembic_config

SQUAWK = Path(sys.executable).with_name("squawk")
POSTGRES = "14.0"
"""The oldest that counts: https://www.postgresql.org/support/versioning/"""
NOT_OURS = {
    "prefer-text-field": "a length is a promise to who reads the column, and is lengthened without a scan",
    "prefer-bigint-over-int": "what counts attempts has no need of it",
    "require-lock-timeout": "alembic/env.py sets it",
    "require-statement-timeout": "alembic/env.py turns it off, as lock_timeout bounds what others wait",
}
ALLOWED = {
    "6f2a41c0d9be": {"ban-drop-constraint": "in the same statement it comes back and allows more"},
    "9d4e2b7f6a13": {"ban-drop-not-null": "the release before inserts a hash, and finds no match with NULL"},
}
"""Rules that a revision breaks, and why nobody is hurt."""
LARGE = ("users", "refresh_tokens", "audit_events")


def revisions() -> Iterator[tuple[str, str]]:
    """A revision, and its SQL."""
    config = alembic_config("postgresql://nowhere")
    for script in ScriptDirectory.from_config(config).walk_revisions():
        config.output_buffer = StringIO()
        command.upgrade(config, f"{script.down_revision or 'base'}:{script.revision}", sql=True)
        yield script.revision, config.output_buffer.getvalue()


def complaints(sql: str) -> set[str]:
    """The rules of squawk that it breaks, and `write-in-bulk`, which squawk does not know."""
    found = subprocess.run(
        [SQUAWK, "--reporter=gcc", f"--pg-version={POSTGRES}", f"--exclude={','.join(NOT_OURS)}"],
        input=sql, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert found.returncode in {0, 1}, found.stderr
    rules = set(re.findall(r"(?m)^[^:]+:\d+:\d+: (?:warning|error): (\S+)", found.stdout))
    assert bool(rules) == bool(found.returncode), found.stdout + found.stderr
    bulk = re.search(rf"(?im)^\s*(UPDATE|DELETE FROM)\s+(ONLY\s+)?({'|'.join(LARGE)})\b", sql)
    return rules | ({"write-in-bulk"} if bulk else set())


def test_no_revision_keeps_others_from_a_large_table() -> None:
    found = {revision: complaints(sql) for revision, sql in revisions()}

    assert {revision: rules for revision, rules in found.items() if rules} == {
        revision: set(reasons) for revision, reasons in ALLOWED.items()
    }


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX i ON users (role);", "require-concurrent-index-creation"),
        ("CREATE INDEX CONCURRENTLY i ON users (role);", "ban-concurrent-index-creation-in-transaction"),
        ("COMMIT; CREATE INDEX CONCURRENTLY i ON users (role); BEGIN;", "prefer-robust-stmts"),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0);", "constraint-missing-not-valid"),
        ("ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES t (id);", "adding-foreign-key-constraint"),
        ("ALTER TABLE users ALTER COLUMN email SET NOT NULL;", "adding-not-nullable-field"),
        ("ALTER TABLE users ADD COLUMN a float DEFAULT random();", "adding-field-with-default"),
        ("ALTER TABLE users ADD COLUMN a text NOT NULL;", "adding-required-field"),
        ("ALTER TABLE users ALTER COLUMN role TYPE text;", "changing-column-type"),
        ("ALTER TABLE users RENAME COLUMN role TO roles;", "renaming-column"),
        ("ALTER TABLE users DROP COLUMN role;", "ban-drop-column"),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE (role);", "disallowed-unique-constraint"),
        ("UPDATE users SET role = 'user';", "write-in-bulk"),
    ],
)  # fmt: skip
def test_what_keeps_others_from_a_large_table_is_refused(statement: str, rule: str) -> None:
    assert rule in complaints(f"BEGIN;\n{statement}\nCOMMIT;\n")
