"""sweeps: where the clean-up of big tables goes on

Revision ID: e4a7c19d5b02
Revises: 9d4e2b7f6a13
"""

import sqlalchemy as sa
from alembic import op

revision = "e4a7c19d5b02"
down_revision = "9d4e2b7f6a13"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("table_name", sa.String(length=63), nullable=False),
        sa.Column("next_block", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("table_name", name=op.f("pk_sweeps")),
    )


def downgrade() -> None:
    op.drop_table("sweeps")
