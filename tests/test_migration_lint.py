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

from app.models import Base
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
SMALL = {"alembic_version", "service_tokens", "signing_keys", "sweeps"}
"""Tables of few rows. Others are large, also those that are still to come."""
TOKEN = re.compile(
    r"""(?six) --[^\n]* | /\*.*?\*/ | (?P<text> e'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(\w*)\$.*?\$\2\$ )
    | "(?P<quoted>(?:[^"]|"")*)" | (?P<word> \w+ | [^\w\s] )"""
)
STATEMENTS = re.compile(
    r"create (unlogged )?table|create (unique )?index|drop index|alter table|insert into|update|delete from"
)
ACTIONS = re.compile(r"add|alter|drop|rename|validate constraint|(re)?set \(")
BESIDE_OTHERS = re.compile(r".* concurrently |alter table \w+ validate constraint ")


def revisions() -> Iterator[tuple[str, str]]:
    """A revision, and its SQL."""
    config = alembic_config("postgresql://nowhere")
    for script in ScriptDirectory.from_config(config).walk_revisions():
        config.output_buffer = StringIO()
        command.upgrade(config, f"{script.down_revision or 'base'}:{script.revision}", sql=True)
        yield script.revision, config.output_buffer.getvalue()


def complaints(sql: str) -> set[str]:
    """The rules of squawk that it breaks, and ours."""
    found = subprocess.run(
        [SQUAWK, "--reporter=gcc", f"--pg-version={POSTGRES}", f"--exclude={','.join(NOT_OURS)}"],
        input=sql, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert found.returncode in {0, 1}, found.stderr
    rules = set(re.findall(r"(?m)^[^:]+:\d+:\d+: (?:warning|error): (\S+)", found.stdout))
    assert bool(rules) == bool(found.returncode), found.stdout + found.stderr
    return rules | set(own_complaints(statements(sql)))


def statements(sql: str) -> list[str]:
    """In small letters, with a space between words, and without comments, texts, quotes and the schema."""
    tokens = (
        "''" if each["text"] else (each["quoted"] or each["word"] or "").lower()
        for each in TOKEN.finditer(sql)
    )
    whole = " ".join(token for token in tokens if token).replace("public . ", "").replace(" only ", " ")
    return [each.strip() for each in whole.split(";") if each.strip()]


def own_complaints(given: list[str]) -> Iterator[str]:
    """What squawk does not know. What is in no list of ours is refused, as nobody has thought about it."""
    new = set(re.findall(r"create (?:unlogged )?table (?:if not exists )?(\w+)", " ".join(given)))
    large = Base.metadata.tables.keys() - SMALL - new
    in_transaction, touched = False, set[str]()
    for statement in given:
        if statement in {"begin", "commit"}:
            in_transaction, touched = statement == "begin", set()
            continue
        named = large.intersection(statement.split())
        touched |= named
        if not STATEMENTS.match(statement):
            yield "unknown-statement"
        if named and statement.startswith(("insert", "update", "delete")):
            yield "write-in-bulk"
        if statement.startswith("alter table"):
            yield from complaints_of_actions(statement)
        if in_transaction and len(touched) > 1:
            yield "several-large-tables"
        if not in_transaction and not BESIDE_OTHERS.match(statement):
            yield "without-transaction"


def complaints_of_actions(statement: str) -> Iterator[str]:
    actions = re.sub(r"alter table (if exists )?\w+ ", "", statement)
    while (flat := re.sub(r"\( [^()]+ \)", "( )", actions)) != actions:
        actions = flat
    for action in actions.split(" , "):
        if not ACTIONS.match(action):
            yield "unknown-action"
        if re.match(r"add (?!constraint |check ).* check ", action):
            yield "constraint-missing-not-valid"


def test_no_revision_keeps_others_from_a_large_table() -> None:
    found = {revision: complaints(sql) for revision, sql in revisions()}

    assert {revision: rules for revision, rules in found.items() if rules} == {
        revision: set(reasons) for revision, reasons in ALLOWED.items()
    }


ADD = "ALTER TABLE {} ADD COLUMN IF NOT EXISTS a text;"


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
        ("ALTER TABLE users ADD COLUMN a int CHECK (a > 0);", "constraint-missing-not-valid"),
        ("ALTER TABLE users SET (fillfactor = 90), SET LOGGED;", "unknown-action"),
        ("ALTER TABLE users SET TABLESPACE fast;", "unknown-action"),
        ("UPDATE users SET role = 'user';", "write-in-bulk"),
        ("update public.users set role = 'user';", "write-in-bulk"),
        ("""SELECT ';'; /* all */ UPDATE ONLY "public" . "users" SET role = 'user';""", "write-in-bulk"),
        ("DELETE FROM revocations;", "write-in-bulk"),
        ("UPDATE throttles SET tat = now();", "write-in-bulk"),
        ("INSERT INTO sweeps SELECT email, id, created_at FROM users;", "write-in-bulk"),
        ("WITH a AS (SELECT 1) UPDATE users SET role = 'user';", "unknown-statement"),
        ("DO $$ BEGIN UPDATE users SET role = 'user'; END $$;", "unknown-statement"),
        ("LOCK TABLE users;", "unknown-statement"),
        ("TRUNCATE users;", "unknown-statement"),
        ("CLUSTER users;", "unknown-statement"),
        ("COMMIT; VACUUM FULL users; BEGIN;", "unknown-statement"),
        (f"{ADD.format('users')} {ADD.format('audit_events')}", "several-large-tables"),
        (f"{ADD.format('users')} CREATE TABLE t (u bigint REFERENCES revocations);", "several-large-tables"),
        (f"COMMIT; {ADD.format('users')} BEGIN;", "without-transaction"),
    ],
)  # fmt: skip
def test_what_keeps_others_from_a_large_table_is_refused(statement: str, rule: str) -> None:
    assert rule in complaints(f"BEGIN;\n{statement}\nCOMMIT;\n")


def test_what_lets_others_go_on_is_not_refused() -> None:
    beside_others = """DROP INDEX CONCURRENTLY IF EXISTS i;
        CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON "users" (role);
        ALTER TABLE users VALIDATE CONSTRAINT c;"""
    of_one_table = f"""{ADD.format("users")} UPDATE sweeps SET next_block = 0;
        ALTER TABLE ONLY users ADD CONSTRAINT d CHECK (role <> 'x; UPDATE users') NOT VALID;"""

    sql = f"BEGIN; {ADD.format('revocations')} COMMIT; {beside_others} BEGIN; {of_one_table} COMMIT;"

    assert list(own_complaints(statements(sql))) == []
