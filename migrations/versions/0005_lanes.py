"""Holds with a reach, fair shares, the watch over receipts and outcomes, submission ids, and taken lanes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.Uuid().with_variant(sa.Text(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_NOT_FINAL = "state NOT IN ('accepted', 'cancelled', 'partially_accepted', 'rejected')"

_COLUMNS = (
    ("hold_id", _ID),
    ("watch_at", _MOMENT),
    ("submission_id", sa.Text()),
    ("warned", sa.Text()),
)
_INDEXES = (
    ("lodgment_lane_sent_idx", ["order_key"], f"order_key IS NOT NULL AND sent_at IS NOT NULL AND {_NOT_FINAL}"),
    ("lodgment_submission_idx", ["order_key", "submission_id", "id"], "submission_id IS NOT NULL"),
    ("lodgment_hold_idx", ["hold_id", "id"], "hold_id IS NOT NULL"),
    ("lodgment_share_idx", ["due_at"], "state = 'parked' AND reason_code = 'share.turn'"),
    ("lodgment_watch_idx", ["watch_at"], "watch_at IS NOT NULL"),
    ("lodgment_warned_idx", ["warned", "channel", "sent_at"], f"warned IS NOT NULL AND {_NOT_FINAL}"),
)


def upgrade() -> None:
    op.create_table(
        "sender_share",
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("virtual_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sender_id", name="sender_share_pkey"),
    )
    for name, kind in _COLUMNS:
        op.add_column("lodgment", sa.Column(name, kind))
    _create_hold()
    # Lodgments are many, and the workers go on meanwhile.
    with op.get_context().autocommit_block():
        for name, columns, predicate in _INDEXES:
            where = sa.text(predicate)
            op.create_index(
                name, "lodgment", columns, postgresql_where=where, sqlite_where=where, postgresql_concurrently=True
            )


def downgrade() -> None:
    op.drop_table("hold")
    op.drop_table("sender_share")
    for name, _, _ in _INDEXES:
        op.drop_index(name, "lodgment")
    for name, _ in reversed(_COLUMNS):
        op.drop_column("lodgment", name)


def _create_hold() -> None:
    op.create_table(
        "hold",
        sa.Column("id", _ID, nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason_text", sa.Text(), nullable=False),
        sa.Column("reason_who", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("canary_id", _ID),
        sa.Column("released_at", _MOMENT),
        sa.Column("released_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="hold_pkey"),
        sa.CheckConstraint("scope IN ('agent', 'channel', 'credential', 'employer')", name=op.f("hold_scope_check")),
        sa.CheckConstraint("state IN ('ended', 'ending', 'probing', 'standing')", name=op.f("hold_state_check")),
        sa.CheckConstraint("state <> 'probing' OR canary_id IS NOT NULL", name=op.f("hold_canary_check")),
    )
    is_open, probing, ending = (
        sa.text(f"state {rule}") for rule in ("IN ('probing', 'standing')", "= 'probing'", "= 'ending'")
    )
    op.create_index(
        "hold_open_idx",
        "hold",
        ["key", "scope", "channel", "code"],
        unique=True,
        postgresql_where=is_open,
        sqlite_where=is_open,
    )
    op.create_index("hold_canary_idx", "hold", ["canary_id"], postgresql_where=probing, sqlite_where=probing)
    op.create_index("hold_ending_idx", "hold", ["id"], postgresql_where=ending, sqlite_where=ending)
    op.create_index("hold_since_idx", "hold", ["since"])
