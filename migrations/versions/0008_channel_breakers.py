"""Breakers before the doors of agencies: the canary, who waits there, and warnings of due dates that come near."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.Uuid().with_variant(sa.Text(), "sqlite")
_NOT_FINAL = "state NOT IN ('accepted', 'cancelled', 'partially_accepted', 'rejected')"
_INDEXES = (
    (
        "lodgment_door_idx",
        ["reason_code", "channel", "service", "due_date", "id"],
        "state = 'parked' AND reason_code IN ('breaker.open', 'breaker.polls')",
    ),
    ("lodgment_due_date_idx", ["due_date"], f"due_date IS NOT NULL AND {_NOT_FINAL}"),
)


def upgrade() -> None:
    op.add_column("channel_state", sa.Column("canary_id", _ID))
    op.add_column("lodgment", sa.Column("due_warned", sa.Text()))
    # Lodgments are many, and the workers go on meanwhile.
    with op.get_context().autocommit_block():
        for name, columns, predicate in _INDEXES:
            where = sa.text(predicate)
            op.create_index(
                name, "lodgment", columns, postgresql_where=where, sqlite_where=where, postgresql_concurrently=True
            )


def downgrade() -> None:
    for name, _, _ in _INDEXES:
        op.drop_index(name, "lodgment")
    op.drop_column("lodgment", "due_warned")
    op.drop_column("channel_state", "canary_id")
