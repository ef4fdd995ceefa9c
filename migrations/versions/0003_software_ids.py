"""Software ids: which id each payroll product, as used by one employer or one agent's practice, lodges under."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_ACTIVE = sa.text("retired_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "software_id",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("checked", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("retired_at", _MOMENT),
        sa.Column("retired_by", sa.Text()),
        sa.Column("retired_reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="software_id_pkey"),
        sa.CheckConstraint("origin IN ('generated', 'imported')", name=op.f("software_id_origin_check")),
        sa.CheckConstraint("checked IN ('allowed', 'control_digit')", name=op.f("software_id_checked_check")),
    )
    op.create_index(
        "software_id_active_key",
        "software_id",
        ["party", "product"],
        unique=True,
        postgresql_where=_ACTIVE,
        sqlite_where=_ACTIVE,
    )


def downgrade() -> None:
    op.drop_table("software_id")
