"""more reasons for the end of a session

Revision ID: 6f2a41c0d9be
Revises: 1f68190ad385
"""

from alembic import op

revision = "6f2a41c0d9be"
down_revision = "1f68190ad385"
branch_labels = None
depends_on = None

_NAME = "ck_refresh_tokens_revoked_reason"
_BEFORE = "'logout', 'logout_all', 'password_change', 'reuse_detected', 'admin', 'user_disabled'"
_AFTER = (
    "'logout', 'logout_all', 'password_change', 'password_reset', 'reuse_detected', 'admin', "
    "'user_disabled', 'replaced', 'session_limit'"
)


def _replace(reasons: str) -> None:
    """All rows are read by VALIDATE, which lets others write meanwhile."""
    op.execute(
        f"ALTER TABLE refresh_tokens DROP CONSTRAINT IF EXISTS {_NAME},"
        f" ADD CONSTRAINT {_NAME} CHECK (revoked_reason IN ({reasons})) NOT VALID"
    )
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE refresh_tokens VALIDATE CONSTRAINT {_NAME}")


def upgrade() -> None:
    _replace(_AFTER)


def downgrade() -> None:
    op.execute(
        "UPDATE refresh_tokens SET revoked_reason = CASE revoked_reason"
        " WHEN 'password_reset' THEN 'password_change' ELSE 'logout' END"
        " WHERE revoked_reason IN ('password_reset', 'replaced', 'session_limit')"
    )
    _replace(_BEFORE)
