"""How fast each replay goes, and why: it gives way to live work by what it measures."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("replay", sa.Column("pace", _JSON))


def downgrade() -> None:
    op.drop_column("replay", "pace")
