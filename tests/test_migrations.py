import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url, text

from app.database.revisions import known_revisions
from app.devdb import PROJECT
from app.models import Base
from tests.support import (
    PATIENCE_SECONDS,
    SECRET_KEY,
    MakeDatabase,
    alembic_config,
    clean_environment,
    eventually,
    look_into,
    until_blocked,
)

FIRST = "16977e70efd2"
REGISTRATION = text("INSERT INTO users (email, hashed_password, created_at) VALUES ('ada', 'x', now())")

ADDED_WITHOUT_TRANSACTION = """from alembic import op

revision, down_revision = "of_tomorrow", "{}"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE users ADD COLUMN IF NOT EXISTS added text")
"""


def test_migrations_go_up_down_and_up_again(make_database: MakeDatabase) -> None:
    url = make_database()
    config = alembic_config(url)
    engine = create_engine(url)

    command.upgrade(config, "head")
    assert {"users", "refresh_tokens"} <= set(inspect(engine).get_table_names())
    command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    command.upgrade(config, "head")
    assert {"users", "refresh_tokens"} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_the_migrations_and_the_models_agree(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_migrations_have_one_head() -> None:
    script = ScriptDirectory(str(PROJECT / "alembic"))

    assert len(script.get_heads()) == 1


@pytest.mark.slow
@pytest.mark.process
def test_four_migrators_at_once_all_succeed(make_database: MakeDatabase) -> None:
    url = make_database()
    environment = clean_environment() | {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}
    command_line = [sys.executable, "-m", "alembic", "upgrade", "head"]

    migrators = [
        subprocess.Popen(command_line, cwd=PROJECT, env=environment, stderr=subprocess.PIPE) for _ in range(4)
    ]
    results = [
        (migrator.communicate(timeout=PATIENCE_SECONDS)[1], migrator.returncode) for migrator in migrators
    ]

    assert [status for _, status in results] == [0, 0, 0, 0], results
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    engine.dispose()


def test_a_migration_that_waits_for_a_lock_blocks_no_writer(make_database: MakeDatabase) -> None:
    url = make_database()
    config = alembic_config(url)
    command.upgrade(config, "1f68190ad385")  # the next one changes a constraint of refresh_tokens
    watcher, engine = look_into(url), create_engine(url)
    session = text(
        "INSERT INTO refresh_tokens (id, user_id, token_id, created_at, expires_at)"
        " SELECT gen_random_uuid(), id, gen_random_uuid(), now(), now() FROM users"
    )
    with watcher.connect() as connection, ThreadPoolExecutor(1) as threads:
        connection.execute(REGISTRATION)
        with engine.begin() as long_transaction:
            long_transaction.execute(session)
            migration = threads.submit(command.upgrade, config, "head")
            until_blocked(watcher)

            connection.execute(session)

            assert not migration.done()
        migration.result()

        assert connection.scalar(text("SELECT count(*) FROM refresh_tokens")) == 2
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == known_revisions()[-1]
    for each in (watcher, engine):
        each.dispose()


def test_a_lock_outside_of_a_transaction_is_not_waited_for_long_either(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    ours = PROJECT / "alembic" / "versions"
    (tmp_path / "of_tomorrow.py").write_text(ADDED_WITHOUT_TRANSACTION.format(known_revisions()[-1]), "utf-8")
    url = make_database()
    config = alembic_config(url)
    config.set_main_option("version_locations", f"{ours}{os.pathsep}{tmp_path}")
    command.upgrade(config, known_revisions()[-1])
    watcher, engine = look_into(url), create_engine(url)
    with watcher.connect() as connection, ThreadPoolExecutor(1) as threads:
        with engine.begin() as long_transaction:
            long_transaction.execute(text("SELECT count(*) FROM users"))
            migration = threads.submit(command.upgrade, config, "head")
            until_blocked(watcher)

            connection.execute(REGISTRATION)

            assert not migration.done()
        migration.result()

        assert connection.scalar(text("SELECT added FROM users")) is None
    for each in (watcher, engine):
        each.dispose()


def test_a_large_index_is_built_beside_registrations_however_long_that_takes(
    make_database: MakeDatabase,
) -> None:
    url = make_database()
    limited = make_url(url).update_query_dict({"options": "-c statement_timeout=1s -c lock_timeout=1s"})
    config = alembic_config(limited.render_as_string(hide_password=False))
    command.upgrade(config, FIRST)  # the next one makes indexes of users
    watcher, engine = look_into(url), create_engine(url, isolation_level="REPEATABLE READ")
    longer_than_the_role_may = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '1500 ms'"
    )
    with watcher.connect() as connection, ThreadPoolExecutor(1) as threads:
        with engine.begin() as long_transaction:
            long_transaction.execute(text("SELECT count(*) FROM users"))  # CREATE INDEX waits for its end
            migration = threads.submit(command.upgrade, config, "head")
            eventually(lambda: connection.scalar(longer_than_the_role_may))

            connection.execute(REGISTRATION)

            assert not migration.done()
        migration.result()
    for each in (watcher, engine):
        each.dispose()


def test_an_index_whose_building_was_interrupted_is_built_anew(make_database: MakeDatabase) -> None:
    url = make_database()
    config, watcher = alembic_config(url), look_into(url)
    the_index = "indexrelid = 'ix_users_role_id'::regclass"
    command.upgrade(config, FIRST)
    with watcher.connect() as connection:
        connection.execute(text("CREATE INDEX ix_users_role_id ON users (role, id)"))
        connection.execute(text(f"UPDATE pg_index SET indisvalid = false WHERE {the_index}"))

        command.upgrade(config, "head")

        assert connection.scalar(text(f"SELECT indisvalid FROM pg_index WHERE {the_index}"))
    watcher.dispose()


def test_every_constraint_and_index_has_its_name_by_the_convention(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        constraints = connection.execute(
            text(
                "SELECT conname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid "
                "WHERE relnamespace = 'public'::regnamespace AND contype <> 'n' "
                "AND relname <> 'alembic_version'"
            )
        )
        indexes = connection.execute(
            text(
                "SELECT indexname FROM pg_indexes "
                "WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
        )
        names = {name for (name,) in [*constraints, *indexes]}
    engine.dispose()

    assert names == {
        "pk_users",
        "pk_throttles",
        "pk_consecutive_failures",
        "uq_users_email",
        "ck_users_role",
        "ix_users_email_pattern",
        "ix_users_role_id",
        "ix_users_id_inactive",
        "pk_audit_events",
        "ix_audit_events_at",
        "ix_audit_events_unerased",
        "pk_sweeps",
        "ix_audit_events_actor_id_id",
        "ix_audit_events_event_id",
        "ix_audit_events_user_id_id",
        "pk_refresh_tokens",
        "fk_refresh_tokens_user_id_users",
        "ix_refresh_tokens_user_id",
        "ck_refresh_tokens_revoked",
        "ck_refresh_tokens_revoked_reason",
        "pk_service_tokens",
        "uq_service_tokens_token_hash",
        "pk_revocations",
        "ck_revocations_subject",
        "ix_revocations_transaction_id",
        "ix_revocations_expires_at",
        "pk_signing_keys",
        "ck_signing_keys_algorithm",
        "ck_signing_keys_revoked",
        "pk_outbox_messages",
        "fk_outbox_messages_user_id_users",
        "ck_outbox_messages_state",
        "ck_outbox_messages_finished",
        "ix_outbox_messages_user_id",
        "ix_outbox_messages_finished_at",
        "ix_outbox_messages_next_attempt_at",
        "pk_one_time_tokens",
        "fk_one_time_tokens_user_id_users",
        "ck_one_time_tokens_purpose",
        "uq_one_time_tokens_user_id_purpose",
        "uq_one_time_tokens_email_user_id",
        "ix_one_time_tokens_user_id",
    }


def test_every_foreign_key_has_an_index_and_says_what_a_deletion_does() -> None:
    for table in Base.metadata.tables.values():
        indexed = {index.columns.keys()[0] for index in table.indexes}
        for key in table.foreign_keys:
            assert key.parent.name in indexed
            assert key.ondelete is not None


def test_the_sql_of_the_migrations_can_be_read_without_a_database() -> None:
    config = alembic_config("postgresql://nowhere")
    config.output_buffer = StringIO()

    command.upgrade(config, "head", sql=True)

    assert "CREATE TABLE refresh_tokens" in config.output_buffer.getvalue()


def test_the_code_knows_the_revisions_that_alembic_knows() -> None:
    script = ScriptDirectory.from_config(alembic_config("unused"))
    revisions = [revision.revision for revision in script.walk_revisions()]

    assert known_revisions() == tuple(reversed(revisions))
    assert len(revisions) >= 2
