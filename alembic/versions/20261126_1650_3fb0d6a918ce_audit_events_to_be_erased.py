"""an index of the events of deleted users whose addresses are still to be erased

Revision ID: 3fb0d6a918ce
Revises: e4a7c19d5b02
"""

import sqlalchemy as sa
from alembic import op

revision = "3fb0d6a918ce"
down_revision = "e4a7c19d5b02"
branch_labels = None
depends_on = None

_NAME = "ix_audit_events_unerased"


def upgrade() -> None:
    """From the start where it was interrupted: there is no transaction to roll back."""
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, table_name="audit_events", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _NAME,
            "audit_events",
            ["id"],
            if_not_exists=True,
            postgresql_where=sa.text(
                "event = 'user.deleted' AND NOT details @> '{\"addresses_erased\": true}'"
            ),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, table_name="audit_events", if_exists=True, postgresql_concurrently=True)
