"""Every table of the ledger. A change here needs a migration; a test compares both on PostgreSQL and on SQLite."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect

from pipeline.lodgment.breaker import BreakerScope, BreakerState
from pipeline.lodgment.failures import Blast
from pipeline.lodgment.holds import HoldState
from pipeline.lodgment.lodgment import NOT_BEFORE
from pipeline.lodgment.references import SAML_2_0
from pipeline.lodgment.replay import Known, Mode
from pipeline.lodgment.replay_run import ItemState, ReplayState
from pipeline.lodgment.states import FINAL, State
from pipeline.lodgment.subscription import Checked, Origin


class ArtifactKind(StrEnum):
    """What a stored document is."""

    PAYLOAD = "payload"
    ENVELOPE = "envelope"
    REPLY = "reply"
    TOKEN_REPLY = "token_reply"  # noqa: S105  - a kind of document, not a secret


class TokenState(StrEnum):
    """Where a token key stands with its security token service."""

    REQUESTED = "requested"
    """Claimed for the first time, or again after its token expired: no token can be used."""
    VALID = "valid"
    FAILED = "failed"


def utc_text(moment: datetime) -> str:
    """UTC with microseconds, always 32 characters: sorts as it counts, and both databases read it.

    Raises:
        ValueError: `moment` is naive.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone: pass an aware datetime")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class _UtcText(sa.types.TypeDecorator[datetime]):
    """SQLite has no timestamp with a zone."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else utc_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else datetime.fromisoformat(value)


class _UuidText(sa.types.TypeDecorator[UUID]):
    """SQLite has no UUID; 36 characters sort as the UUIDs do and can be searched by prefix."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> str | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> UUID | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else UUID(value)


Id = sa.Uuid().with_variant(_UuidText(), "sqlite")
Moment = sa.DateTime(timezone=True).with_variant(_UtcText(), "sqlite")
Json = sa.JSON().with_variant(JSONB(), "postgresql")


def quoted(values: Iterable[StrEnum]) -> str:
    """Enum values as an SQL list, in a stable order."""
    return ", ".join(f"'{value}'" for value in sorted(values))


NOT_FINAL = sa.text(f"state NOT IN ({quoted(FINAL)})")
"""The predicate of the partial indexes on open lodgments; queries must repeat it to the letter to use them."""

_ASLEEP = quoted(FINAL | {State.HELD})

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    }
)

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

WAITING_FOR_SHARE = sa.text("state = 'parked' AND reason_code = 'share.turn'")
"""The predicate of the index that finds whose turn is next."""

sa.Index(
    "lodgment_share_idx",
    lodgment.c.due_at,
    postgresql_where=WAITING_FOR_SHARE,
    sqlite_where=WAITING_FOR_SHARE,
)

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

sender_share = sa.Table(
    "sender_share",
    metadata,
    sa.Column("sender_id", sa.Text, primary_key=True),
    sa.Column("virtual_at", Moment, nullable=False),
)
"""How far each sender's lodgments have moved its virtual time on."""

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

# The three tables that grow without end are partitioned by month on PostgreSQL: their ids are ordered by time, and old
# months are dropped whole. They have no foreign keys: each insert would lock its lodgment's row.
attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("lodgment_id", Id, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("envelope_id", Id, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("wire_started_at", Moment),
    sa.Column("finished_at", Moment),
    sa.Column("http_status", sa.Integer),
    sa.Column("reply_id", Id),
    sa.Column("content_type", sa.Text),
    sa.Column("failure_kind", sa.Text),
    sa.Column("failure_code", sa.Text),
    sa.Column("failure_detail", sa.Text),
    sa.Column("failure_advice", sa.Text),
    sa.Column("failure_who", sa.Text),
    sa.Column("failure_blast", sa.Text),
    sa.Column("failure_available_after", Moment),
    postgresql_partition_by="RANGE (id)",
)

artifact = sa.Table(
    "artifact",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("lodgment_id", Id, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("codec", sa.Text, nullable=False),
    sa.Column("payload_id", Id),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.CheckConstraint(f"kind IN ({quoted(ArtifactKind)})", "kind"),
    postgresql_partition_by="RANGE (id)",
)

message_event = sa.Table(
    "message_event",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("lodgment_id", Id, nullable=False, index=True),
    sa.Column("attempt_id", Id, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("location", sa.Text),
    sa.Column("details", Json, nullable=False),
    sa.Column("recorded_at", Moment, nullable=False),
    sa.Column("payee", sa.Text),
    sa.Column("record", sa.Text),
    postgresql_partition_by="RANGE (id)",
)

PARTITIONED = (attempt, artifact, message_event)

attachment = sa.Table(
    "attachment",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("lodgment_id", Id, sa.ForeignKey("lodgment.id"), nullable=False, index=True),
    sa.Column("attempt_id", Id, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("document_type", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("url", sa.Text),
    sa.Column("document_number", sa.Text),
    sa.Column("recorded_at", Moment, nullable=False),
)

payee_map = sa.Table(
    "payee_map",
    metadata,
    sa.Column("lodgment_id", Id, sa.ForeignKey("lodgment.id"), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""Whom each record of a document is about; sealed, because it names people."""

security_token = sa.Table(
    "security_token",
    metadata,
    sa.Column("key_hash", sa.Text, primary_key=True),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("sts", sa.Text, nullable=False),
    sa.Column("applies_to", sa.Text, nullable=False),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("second_party", sa.Text),
    sa.Column("software_id", sa.Text),
    sa.Column("claims", Json, nullable=False),
    sa.Column("key_size", sa.Integer, nullable=False),
    sa.Column("saml_version", sa.Text, nullable=False, server_default=SAML_2_0),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("assertion", sa.LargeBinary),
    sa.Column("proof_key", sa.LargeBinary),
    sa.Column("assertion_id", sa.Text),
    sa.Column("created_at", Moment),
    sa.Column("expires_at", Moment),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", Moment),
    sa.Column("failed_code", sa.Text),
    sa.Column("failed_text", sa.Text),
    sa.Column("failed_who", sa.Text),
    sa.Column("retry_at", Moment),
    sa.Column("requested_at", Moment, nullable=False),
    sa.Column("renewals", sa.Integer, nullable=False),
    sa.Column("last_used_at", Moment, nullable=False),
    sa.Column("wanted_until", Moment),
    sa.Column("ask_turn", sa.SmallInteger),
    sa.Column("ask_at", Moment),
    sa.Column("failures", sa.Integer),
    sa.Column("unsettled_at", Moment),
    sa.CheckConstraint(f"state IN ({quoted(TokenState)})", "state"),
)
TO_ASK = security_token.c.ask_at.is_not(None)
sa.Index(
    "security_token_ask_idx",
    security_token.c.sts,
    security_token.c.ask_turn,
    security_token.c.ask_at,
    postgresql_where=TO_ASK,
    sqlite_where=TO_ASK,
)
LEASED = security_token.c.lease_until.is_not(None)
sa.Index("security_token_lease_idx", security_token.c.lease_until, postgresql_where=LEASED, sqlite_where=LEASED)
UNSETTLED = security_token.c.unsettled_at.is_not(None)
sa.Index(
    "security_token_unsettled_idx", security_token.c.unsettled_at, postgresql_where=UNSETTLED, sqlite_where=UNSETTLED
)
sa.Index("security_token_second_party_idx", security_token.c.second_party)

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
    sa.CheckConstraint(f"scope IN ({quoted(BreakerScope)})", "scope"),
    sa.CheckConstraint(f"state IN ({quoted(BreakerState)})", "state"),
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text),
    sa.Column("lodgment_id", Id),
    sa.Column("message_id", sa.Text),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("received_at", Moment, nullable=False),
    # When it left, whichever way; `fate` says which.
    sa.Column("released_at", Moment),
    sa.Column("fate", sa.Text),
    sa.Column("fate_by", sa.Text),
    sa.Column("fate_reason", sa.Text),
    sa.Column("fixed_at", Moment),
    sa.Column("fixed_by", sa.Text),
)
sa.Index(
    "quarantine_kept_idx",
    quarantine.c.id,
    postgresql_where=quarantine.c.released_at.is_(None),
    sqlite_where=quarantine.c.released_at.is_(None),
)

ledger_identity = sa.Table(
    "ledger_identity",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("restored_at", Moment),
)
"""One row, made with the table: copies and restored backups keep it, so references are derived from it."""

sweep = sa.Table(
    "sweep",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("last_run_at", Moment, nullable=False),
    sa.Column("looked_until", Moment),
    sa.Column("last_acted_at", Moment),
    sa.Column("last_count", sa.BigInteger),
    sa.Column("acted", sa.BigInteger, nullable=False),
)
"""When each kind of sweep last ran, over all schedulers, and what it last found to do."""

operator_action = sa.Table(
    "operator_action",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("lodgment_id", Id, sa.ForeignKey("lodgment.id"), index=True),
    sa.Column("reason", sa.Text, nullable=False),
)

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

software_id = sa.Table(
    "software_id",
    metadata,
    # Retired ones stay, so that no id is ever given to a second client: the ATO may still know the first by it.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("product", sa.Text, nullable=False),
    sa.Column("party", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("checked", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("retired_at", Moment),
    sa.Column("retired_by", sa.Text),
    sa.Column("retired_reason", sa.Text),
    sa.CheckConstraint(f"origin IN ({quoted(Origin)})", "origin"),
    sa.CheckConstraint(f"checked IN ({quoted(Checked)})", "checked"),
)
ACTIVE = sa.text("retired_at IS NULL")
sa.Index(
    "software_id_active_key",
    software_id.c.party,
    software_id.c.product,
    unique=True,
    postgresql_where=ACTIVE,
    sqlite_where=ACTIVE,
)
