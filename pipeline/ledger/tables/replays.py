"""The replays that operators planned, and the lodgments in each."""

import sqlalchemy as sa

from pipeline.ledger.tables.columns import Id, Json, Moment, metadata, quoted
from pipeline.lodgment.replay import Known, Mode
from pipeline.lodgment.replay_run import ItemState, ReplayState

replay = sa.Table(
    "replay",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("selection", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("rate", sa.Double, nullable=False),
    sa.Column("halt_share", sa.Double, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("barred", sa.Integer, nullable=False),
    sa.Column("approved_by", sa.Text),
    sa.Column("approved_at", Moment),
    sa.Column("started_by", sa.Text),
    sa.Column("started_at", Moment),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("stage_started", sa.Integer, nullable=False),
    sa.Column("started", sa.Integer, nullable=False),
    sa.Column("ended", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("skipped", sa.Integer, nullable=False),
    sa.Column("cursor", Id),
    sa.Column("paced_at", Moment),
    sa.Column("judged_since", Moment),
    sa.Column("halt_code", sa.Text),
    sa.Column("finished_at", Moment),
    sa.Column("pace", Json),
    sa.CheckConstraint(f"mode IN ({quoted(Mode)})", "mode"),
    sa.CheckConstraint(f"state IN ({quoted(ReplayState)})", "state"),
    # Nothing goes out under a new reference before a second person has said so.
    sa.CheckConstraint("mode <> 'new-reference' OR started_at IS NULL OR approved_by IS NOT NULL", "approval"),
)
BUSY_REPLAY = sa.text("state = 'running' OR started > ended")
"""Replays that the scheduler has anything to do for."""
sa.Index("replay_busy_idx", replay.c.id, postgresql_where=BUSY_REPLAY, sqlite_where=BUSY_REPLAY)

replay_item = sa.Table(
    "replay_item",
    metadata,
    sa.Column("replay_id", Id, sa.ForeignKey("replay.id"), primary_key=True),
    # No foreign key: a hundred thousand of them are written in one statement, and each would lock its lodgment.
    sa.Column("lodgment_id", Id, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("known", sa.Text, nullable=False),
    sa.Column("bytes_at_hand", sa.Boolean, nullable=False),
    sa.Column("was_state", sa.Text, nullable=False),
    sa.Column("was_code", sa.Text),
    sa.Column("mode", sa.Text),
    sa.Column("stage", sa.Integer),
    sa.Column("started_at", Moment),
    sa.Column("ended_at", Moment),
    sa.Column("end_state", sa.Text),
    sa.Column("end_code", sa.Text),
    sa.Column("failed", sa.Boolean),
    sa.Column("successor_id", Id),
    sa.CheckConstraint(f"state IN ({quoted(ItemState)})", "state"),
    sa.CheckConstraint(f"known IN ({quoted(Known)})", "known"),
    sa.CheckConstraint(f"mode IN ({quoted(Mode)})", "mode"),
)
OPEN_ITEM = sa.text("state IN ('started', 'waiting')")
"""A lodgment is in one open replay at most: the predicate of the index that sees to it."""
sa.Index(
    "replay_item_open_key", replay_item.c.lodgment_id, unique=True, postgresql_where=OPEN_ITEM, sqlite_where=OPEN_ITEM
)
_STARTED, _SUCCEEDED = sa.text("state = 'started'"), replay_item.c.successor_id.is_not(None)
sa.Index(
    "replay_item_started_idx",
    replay_item.c.replay_id,
    replay_item.c.lodgment_id,
    postgresql_where=_STARTED,
    sqlite_where=_STARTED,
)
sa.Index(
    "replay_item_ended_idx",
    replay_item.c.replay_id,
    replay_item.c.stage,
    replay_item.c.ended_at,
    postgresql_where=replay_item.c.ended_at.is_not(None),
    sqlite_where=replay_item.c.ended_at.is_not(None),
)
sa.Index("replay_item_successor_idx", replay_item.c.lodgment_id, postgresql_where=_SUCCEEDED, sqlite_where=_SUCCEEDED)
