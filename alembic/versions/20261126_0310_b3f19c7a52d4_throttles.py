"""throttles

Revision ID: b3f19c7a52d4
Revises: b7d15c0e4a92
"""

import sqlalchemy as sa
from alembic import op

revision = "b3f19c7a52d4"
down_revision = "b7d15c0e4a92"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "throttles",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tat", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttles")),
        prefixes=["UNLOGGED"],
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "consecutive_failures",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_consecutive_failures")),
        postgresql_with={"fillfactor": 70},
    )


def downgrade() -> None:
    op.drop_table("consecutive_failures")
    op.drop_table("throttles")
