"""audit events, and indexes for the lists of users

Revision ID: 1f68190ad385
Revises: 16977e70efd2
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "1f68190ad385"
down_revision = "16977e70efd2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _index_users()
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("ip_address", postgresql.INET(), nullable=True),
        sa.Column("user_agent", sa.String(length=255), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index("ix_audit_events_actor_id_id", "audit_events", ["actor_id", "id"], unique=False)
    op.create_index("ix_audit_events_at", "audit_events", ["at"], unique=False)
    op.create_index("ix_audit_events_event_id", "audit_events", ["event", "id"], unique=False)
    op.create_index("ix_audit_events_user_id_id", "audit_events", ["user_id", "id"], unique=False)


def _index_users() -> None:
    """With CONCURRENTLY, as a million users take a second, for which nobody could register.

    First of all, and again from the start where it was interrupted: there is no transaction to roll back.
    """
    with op.get_context().autocommit_block():
        for name in ("ix_users_email_pattern", "ix_users_id_inactive", "ix_users_role_id"):
            op.drop_index(name, table_name="users", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_users_email_pattern",
            "users",
            ["email"],
            if_not_exists=True,
            postgresql_ops={"email": "varchar_pattern_ops"},
            postgresql_concurrently=True,
        )
        op.create_index(
            "ix_users_id_inactive",
            "users",
            ["id"],
            if_not_exists=True,
            postgresql_where=sa.text("NOT is_active"),
            postgresql_concurrently=True,
        )
        op.create_index(
            "ix_users_role_id", "users", ["role", "id"], if_not_exists=True, postgresql_concurrently=True
        )


def downgrade() -> None:
    op.drop_index("ix_users_role_id", table_name="users")
    op.drop_index("ix_users_id_inactive", table_name="users")
    op.drop_index(
        "ix_users_email_pattern", table_name="users", postgresql_ops={"email": "varchar_pattern_ops"}
    )
    op.drop_index("ix_audit_events_user_id_id", table_name="audit_events")
    op.drop_index("ix_audit_events_event_id", table_name="audit_events")
    op.drop_index("ix_audit_events_at", table_name="audit_events")
    op.drop_index("ix_audit_events_actor_id_id", table_name="audit_events")
    op.drop_table("audit_events")
