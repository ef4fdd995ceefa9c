"""The lodgments, and how far each sender's have used its share."""

import sqlalchemy as sa

from pipeline.ledger.tables.columns import Id, Json, Moment, metadata, quoted
from pipeline.lodgment.lodgment import NOT_BEFORE
from pipeline.lodgment.states import FINAL, State

NOT_FINAL = sa.text(f"state NOT IN ({quoted(FINAL)})")
"""The predicate of the partial indexes on open lodgments; queries must repeat it to the letter to use them."""

_ASLEEP = quoted(FINAL | {State.HELD})

lodgment = sa.Table(
    "lodgment",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False, unique=True),
    sa.Column("content_digest", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("sender_id", sa.Text, nullable=False),
    sa.Column("sender_type", sa.Text, nullable=False),
    sa.Column("party_abn", sa.Text, nullable=False),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("software_id", sa.Text),
    sa.Column("order_key", sa.Text),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("due_date", sa.Date),
    sa.Column("received_at", Moment, nullable=False),
    sa.Column("payload_id", Id, nullable=False),
    sa.Column("facts", Json, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("due_at", Moment),
    sa.Column("resume", sa.Text),
    sa.Column("reason_code", sa.Text),
    sa.Column("reason_text", sa.Text),
    sa.Column("reason_who", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("waits", sa.Integer, nullable=False),
    sa.Column("token_key", sa.Text),
    sa.Column("token_expires_at", Moment),
    sa.Column("envelope_id", Id),
    sa.Column("attempt_id", Id),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("sent_at", Moment),
    sa.Column("agency_reference", sa.Text),
    sa.Column("document_number", sa.Text),
    sa.Column("finished_at", Moment),
    sa.Column("gateway", sa.Text),
    sa.Column("hold_id", Id),
    sa.Column("watch_at", Moment),
    sa.Column("doubted_at", Moment),
    sa.Column("replayed_at", Moment),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("labels", Json, nullable=False),
    sa.Column("submission_id", sa.Text),
    # Not among what a move writes: these are the watch's alone.
    sa.Column("warned", sa.Text),
    sa.Column("due_warned", sa.Text),
    sa.CheckConstraint(f"state IN ({quoted(State)})", "state"),
    sa.CheckConstraint(f"resume IN ({quoted(State)})", "resume"),
    # A lodgment that nobody would ever look at again must be final or in a person's hands.
    sa.CheckConstraint(f"(due_at IS NULL) = (state IN ({_ASLEEP}))", "due_at"),
    # The reference comes first: it is also what people search by.
    sa.UniqueConstraint("reference", "channel", "environment", "sender_id", name="lodgment_reference_key"),
)
# Every move writes to this index, so it is the only one on what moves: the columns after the first let it answer the
# overview (how many in which state, since when) without the table.
sa.Index(
    "lodgment_due_at_idx",
    lodgment.c.due_at,
    lodgment.c.state,
    lodgment.c.channel,
    lodgment.c.environment,
    lodgment.c.received_at,
    postgresql_where=lodgment.c.due_at.is_not(None),
    sqlite_where=lodgment.c.due_at.is_not(None),
)
HELD = sa.text("state = 'held'")
sa.Index("lodgment_held_idx", lodgment.c.id, postgresql_where=HELD, sqlite_where=HELD)
_LANE = sa.and_(lodgment.c.order_key.is_not(None), NOT_FINAL)
sa.Index("lodgment_lane_idx", lodgment.c.order_key, lodgment.c.id, postgresql_where=_LANE, sqlite_where=_LANE)
_SENT = sa.and_(lodgment.c.order_key.is_not(None), lodgment.c.sent_at.is_not(None), NOT_FINAL)
# Whether a lane is taken is asked of each lodgment in it: without this index, over all that wait there.
sa.Index("lodgment_lane_sent_idx", lodgment.c.order_key, postgresql_where=_SENT, sqlite_where=_SENT)
_SUBMITTED = lodgment.c.submission_id.is_not(None)
sa.Index(
    "lodgment_submission_idx",
    lodgment.c.order_key,
    lodgment.c.submission_id,
    lodgment.c.id,
    postgresql_where=_SUBMITTED,
    sqlite_where=_SUBMITTED,
)
_WITH_HOLD = lodgment.c.hold_id.is_not(None)
sa.Index("lodgment_hold_idx", lodgment.c.hold_id, lodgment.c.id, postgresql_where=_WITH_HOLD, sqlite_where=_WITH_HOLD)
_WATCHED = lodgment.c.watch_at.is_not(None)
sa.Index("lodgment_watch_idx", lodgment.c.watch_at, postgresql_where=_WATCHED, sqlite_where=_WATCHED)
_WARNED = sa.and_(lodgment.c.warned.is_not(None), NOT_FINAL)
sa.Index(
    "lodgment_warned_idx",
    lodgment.c.warned,
    lodgment.c.channel,
    lodgment.c.sent_at,
    postgresql_where=_WARNED,
    sqlite_where=_WARNED,
)

WAITING_FOR_TOKEN = sa.text("state = 'parked' AND reason_code = 'token.requested'")
"""The predicate of the index that finds whom a new token sets free."""

sa.Index(
    "lodgment_token_idx",
    lodgment.c.token_key,
    lodgment.c.id,
    postgresql_where=WAITING_FOR_TOKEN,
    sqlite_where=WAITING_FOR_TOKEN,
)

NOT_YET_WARM = sa.text(f"state = 'parked' AND reason_code = '{NOT_BEFORE}' AND token_key IS NULL")
"""Lodgments that wait for their time, and for which no token has been bespoken yet."""

sa.Index("lodgment_ahead_idx", lodgment.c.due_at, postgresql_where=NOT_YET_WARM, sqlite_where=NOT_YET_WARM)

UNDER_WAY = sa.text("state IN ('authorised', 'received', 'sealed') AND replayed_at IS NULL")
"""Lodgments on their way to the agency: what a small sender's would stand behind. What is replayed gives way to all."""

sa.Index("lodgment_under_way_idx", lodgment.c.id, postgresql_where=UNDER_WAY, sqlite_where=UNDER_WAY)

WAITING_AT_DOOR = sa.text("state = 'parked' AND reason_code IN ('breaker.open', 'breaker.polls')")
"""The predicate of the index that finds who waits before an agency's closed door, the least slack first."""

sa.Index(
    "lodgment_door_idx",
    lodgment.c.reason_code,
    lodgment.c.channel,
    lodgment.c.service,
    lodgment.c.due_date,
    lodgment.c.id,
    postgresql_where=WAITING_AT_DOOR,
    sqlite_where=WAITING_AT_DOOR,
)

_WITH_DEADLINE = sa.and_(lodgment.c.due_date.is_not(None), NOT_FINAL)
sa.Index("lodgment_due_date_idx", lodgment.c.due_date, postgresql_where=_WITH_DEADLINE, sqlite_where=_WITH_DEADLINE)
