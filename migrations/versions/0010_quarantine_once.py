"""Quarantine: what a message is known by, so that one which comes again is kept once."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_INDEX = "quarantine_identity_idx"
_KEPT = sa.text("released_at IS NULL")


def upgrade() -> None:
    op.add_column("quarantine", sa.Column("identity", sa.Text()))
    with op.get_context().autocommit_block():
        op.create_index(
            _INDEX,
            "quarantine",
            ["identity"],
            unique=True,
            postgresql_where=_KEPT,
            sqlite_where=_KEPT,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(_INDEX, "quarantine")
    op.drop_column("quarantine", "identity")
