"""Replays: the frozen list, how far each is, and when a lodgment was last replayed."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.Uuid().with_variant(sa.Text(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_MODES = "'new-reference', 'safest', 'same-bytes', 'same-reference'"
_REPLAY_STATES = "'cancelled', 'done', 'halted', 'paused', 'planned', 'running'"
_ITEM_STATES = "'barred', 'dropped', 'ended', 'skipped', 'started', 'waiting'"
_KNOWN = (
    "'agency-has-it', 'claimed', 'job-id-taken', 'lodged', 'lodged-again', 'never-sent', 'rejected', 'sent-before',"
    " 'under-hold', 'under-way', 'unsettled', 'waits-its-turn', 'with-agency', 'withdrawn'"
)


def upgrade() -> None:
    op.add_column("lodgment", sa.Column("replayed_at", _MOMENT))
    _create_replay()
    _create_items()


def downgrade() -> None:
    op.drop_table("replay_item")
    op.drop_table("replay")
    op.drop_column("lodgment", "replayed_at")


def _create_replay() -> None:
    op.create_table(
        "replay",
        sa.Column("id", _ID, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("selection", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("halt_share", sa.Double(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("barred", sa.Integer(), nullable=False),
        sa.Column("approved_by", sa.Text()),
        sa.Column("approved_at", _MOMENT),
        sa.Column("started_by", sa.Text()),
        sa.Column("started_at", _MOMENT),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("stage_started", sa.Integer(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("ended", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("cursor", _ID),
        sa.Column("paced_at", _MOMENT),
        sa.Column("judged_since", _MOMENT),
        sa.Column("halt_code", sa.Text()),
        sa.Column("finished_at", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="replay_pkey"),
        sa.CheckConstraint(f"mode IN ({_MODES})", name=op.f("replay_mode_check")),
        sa.CheckConstraint(f"state IN ({_REPLAY_STATES})", name=op.f("replay_state_check")),
        sa.CheckConstraint(
            "mode <> 'new-reference' OR started_at IS NULL OR approved_by IS NOT NULL",
            name=op.f("replay_approval_check"),
        ),
    )
    busy = sa.text("state = 'running' OR started > ended")
    op.create_index("replay_busy_idx", "replay", ["id"], postgresql_where=busy, sqlite_where=busy)


def _create_items() -> None:
    op.create_table(
        "replay_item",
        sa.Column("replay_id", _ID, nullable=False),
        sa.Column("lodgment_id", _ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("known", sa.Text(), nullable=False),
        sa.Column("bytes_at_hand", sa.Boolean(), nullable=False),
        sa.Column("was_state", sa.Text(), nullable=False),
        sa.Column("was_code", sa.Text()),
        sa.Column("mode", sa.Text()),
        sa.Column("stage", sa.Integer()),
        sa.Column("started_at", _MOMENT),
        sa.Column("ended_at", _MOMENT),
        sa.Column("end_state", sa.Text()),
        sa.Column("end_code", sa.Text()),
        sa.Column("failed", sa.Boolean()),
        sa.Column("successor_id", _ID),
        sa.PrimaryKeyConstraint("replay_id", "lodgment_id", name="replay_item_pkey"),
        sa.ForeignKeyConstraint(["replay_id"], ["replay.id"], name="replay_item_replay_id_fkey"),
        sa.CheckConstraint(f"state IN ({_ITEM_STATES})", name=op.f("replay_item_state_check")),
        sa.CheckConstraint(f"known IN ({_KNOWN})", name=op.f("replay_item_known_check")),
        sa.CheckConstraint(f"mode IN ({_MODES})", name=op.f("replay_item_mode_check")),
    )
    for name, columns, predicate, unique in (
        ("replay_item_open_key", ["lodgment_id"], "state IN ('started', 'waiting')", True),
        ("replay_item_started_idx", ["replay_id", "lodgment_id"], "state = 'started'", False),
        ("replay_item_ended_idx", ["replay_id", "stage", "ended_at"], "ended_at IS NOT NULL", False),
        ("replay_item_successor_idx", ["lodgment_id"], "successor_id IS NOT NULL", False),
    ):
        where = sa.text(predicate)
        op.create_index(name, "replay_item", columns, unique=unique, postgresql_where=where, sqlite_where=where)
