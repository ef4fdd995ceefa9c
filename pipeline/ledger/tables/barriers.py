"""What keeps lodgments from being sent: holds, which a person ends, and breakers, which end by themselves."""

import sqlalchemy as sa

from pipeline.ledger.tables.columns import Id, Json, Moment, metadata, quoted
from pipeline.lodgment.breaker import BreakerScope, BreakerState
from pipeline.lodgment.failures import Blast
from pipeline.lodgment.holds import HoldState

hold = sa.Table(
    "hold",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason_text", sa.Text, nullable=False),
    sa.Column("reason_who", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("since", Moment, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("canary_id", Id),
    sa.Column("released_at", Moment),
    sa.Column("released_by", sa.Text),
    sa.CheckConstraint(f"scope IN ({quoted(set(Blast) - {Blast.LODGMENT})})", "scope"),
    sa.CheckConstraint(f"state IN ({quoted(HoldState)})", "state"),
    # One that is tried out has somebody who goes first.
    sa.CheckConstraint("state <> 'probing' OR canary_id IS NOT NULL", "canary"),
)
"""What stops an employer, a practice, a credential or a channel: consulted before anything is sent."""

OPEN_HOLD = sa.text("state IN ('probing', 'standing')")
_PROBING, _ENDING = sa.text("state = 'probing'"), sa.text("state = 'ending'")
sa.Index(
    "hold_open_idx",
    hold.c.key,
    hold.c.scope,
    hold.c.channel,
    hold.c.code,
    unique=True,
    postgresql_where=OPEN_HOLD,
    sqlite_where=OPEN_HOLD,
)
sa.Index("hold_canary_idx", hold.c.canary_id, postgresql_where=_PROBING, sqlite_where=_PROBING)
sa.Index("hold_ending_idx", hold.c.id, postgresql_where=_ENDING, sqlite_where=_ENDING)
sa.Index("hold_since_idx", hold.c.since)

channel_state = sa.Table(
    "channel_state",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("cause_code", sa.Text),
    sa.Column("cause_text", sa.Text),
    sa.Column("cause_who", sa.Text),
    sa.Column("opened_at", Moment),
    sa.Column("probe_at", Moment),
    sa.Column("openings", sa.Integer, nullable=False),
    sa.Column("consecutive", sa.Integer, nullable=False),
    sa.Column("answers", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("window_since", Moment),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("step_since", Moment),
    sa.Column("step_spent", sa.Integer, nullable=False),
    sa.Column("allowance", sa.Double, nullable=False),
    sa.Column("allowed_at", Moment),
    sa.Column("canary_id", Id),
    sa.Column("turned_away", Json, nullable=False, server_default=sa.text("'[]'")),
    sa.CheckConstraint(f"scope IN ({quoted(BreakerScope)})", "scope"),
    sa.CheckConstraint(f"state IN ({quoted(BreakerState)})", "state"),
)
