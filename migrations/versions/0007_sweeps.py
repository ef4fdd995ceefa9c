"""The ledger's identity, notes of the sweeps, doubt after a restore, and what became of a message in quarantine."""

from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.Uuid().with_variant(sa.Text(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

_COLUMNS = (
    ("lodgment", "doubted_at", _MOMENT),
    ("quarantine", "fate", sa.Text()),
    ("quarantine", "fate_by", sa.Text()),
    ("quarantine", "fate_reason", sa.Text()),
    ("quarantine", "fixed_at", _MOMENT),
    ("quarantine", "fixed_by", sa.Text()),
)


def upgrade() -> None:
    for table, name, kind in _COLUMNS:
        op.add_column(table, sa.Column(name, kind))
    op.create_table(
        "sweep",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("last_run_at", _MOMENT, nullable=False),
        sa.Column("looked_until", _MOMENT),
        sa.Column("last_acted_at", _MOMENT),
        sa.Column("last_count", sa.BigInteger()),
        sa.Column("acted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="sweep_pkey"),
    )
    identity = op.create_table(
        "ledger_identity",
        sa.Column("id", _ID, nullable=False),
        sa.Column("made_at", _MOMENT, nullable=False),
        sa.Column("restored_at", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="ledger_identity_pkey"),
    )
    made_at, made = datetime.now(UTC), uuid4()
    as_text = op.get_bind().dialect.name == "sqlite"
    row = {"id": str(made), "made_at": made_at.isoformat(timespec="microseconds")} if as_text else None
    op.bulk_insert(identity, [row or {"id": made, "made_at": made_at}])


def downgrade() -> None:
    op.drop_table("ledger_identity")
    op.drop_table("sweep")
    for table, name, _ in reversed(_COLUMNS):
        op.drop_column(table, name)
