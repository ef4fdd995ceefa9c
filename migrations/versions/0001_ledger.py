"""The ledger: lodgments, attempts, artifacts, message events, tokens, quarantine, audit, and the analysts' views."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.ledger.partitions import create_missing

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Uuid().with_variant(sa.Text(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")

_PARTITIONED = ("attempt", "artifact", "message_event")
_STATES = (
    "'accepted', 'authorised', 'awaiting', 'cancelled', 'held', 'parked', 'partially_accepted', 'received', "
    "'rejected', 'sealed', 'sending', 'unknown'"
)
_FINAL = "'accepted', 'cancelled', 'partially_accepted', 'rejected'"

_VIEWS = {
    "lodgment_outcome": """
        SELECT id AS lodgment_id, reference, job_id, party_abn AS abn, channel, environment, service, action, state,
               reason_code, reason_text, reason_who, received_at, due_date, sent_at, finished_at, attempts,
               agency_reference, document_number, labels
          FROM lodgment""",
    "rejection_event": """
        SELECT e.id AS event_id, l.id AS lodgment_id, l.reference, l.job_id, l.party_abn AS abn, l.channel,
               l.environment, l.service, l.action, l.state, e.code, e.description, e.location, e.recorded_at
          FROM message_event e JOIN lodgment l ON l.id = e.lodgment_id
         WHERE e.severity = 'Error'""",
    "attempt_history": """
        SELECT a.id AS attempt_id, l.id AS lodgment_id, l.reference, l.party_abn AS abn, l.channel, l.environment,
               a.number, a.purpose, a.started_at, a.wire_started_at, a.finished_at, a.http_status, a.failure_kind,
               a.failure_code, a.failure_who
          FROM attempt a JOIN lodgment l ON l.id = a.lodgment_id""",
}


def upgrade() -> None:
    _create_lodgment()
    _create_attempt()
    _create_artifact()
    _create_message_event()
    _create_attachment()
    _create_security_token()
    _create_quarantine()
    _create_operator_action()
    if op.get_bind().dialect.name == "postgresql":
        _prepare_partitions()
    for name, query in _VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in _VIEWS:
        op.execute(f"DROP VIEW {name}")
    for table in ("operator_action", "attachment", "quarantine", "security_token", *_PARTITIONED, "lodgment"):
        op.drop_table(table)


def _create_lodgment() -> None:
    op.create_table(
        "lodgment",
        sa.Column("id", _ID, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("content_digest", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("sender_type", sa.Text(), nullable=False),
        sa.Column("party_abn", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("software_id", sa.Text()),
        sa.Column("order_key", sa.Text()),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("due_date", sa.Date()),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("payload_id", _ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("due_at", _MOMENT),
        sa.Column("resume", sa.Text()),
        sa.Column("reason_code", sa.Text()),
        sa.Column("reason_text", sa.Text()),
        sa.Column("reason_who", sa.Text()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("waits", sa.Integer(), nullable=False),
        sa.Column("token_key", sa.Text()),
        sa.Column("token_expires_at", _MOMENT),
        sa.Column("envelope_id", _ID),
        sa.Column("attempt_id", _ID),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sent_at", _MOMENT),
        sa.Column("agency_reference", sa.Text()),
        sa.Column("document_number", sa.Text()),
        sa.Column("finished_at", _MOMENT),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("labels", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="lodgment_pkey"),
        sa.UniqueConstraint("job_id", name="lodgment_job_id_key"),
        sa.UniqueConstraint("reference", "channel", "environment", "sender_id", name="lodgment_reference_key"),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("lodgment_state_check")),
        sa.CheckConstraint(f"resume IN ({_STATES})", name=op.f("lodgment_resume_check")),
        sa.CheckConstraint(f"(due_at IS NULL) = (state IN ({_FINAL}, 'held'))", name=op.f("lodgment_due_at_check")),
    )
    due_columns = ["due_at", "state", "channel", "environment", "received_at"]
    _partial_index("lodgment_due_at_idx", "lodgment", due_columns, "due_at IS NOT NULL")
    _partial_index("lodgment_held_idx", "lodgment", ["id"], "state = 'held'")
    lane = f"order_key IS NOT NULL AND state NOT IN ({_FINAL})"
    _partial_index("lodgment_lane_idx", "lodgment", ["order_key", "id"], lane)
    waiting = "state = 'parked' AND reason_code = 'token.requested'"
    _partial_index("lodgment_token_idx", "lodgment", ["token_key", "id"], waiting)


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", _ID, nullable=False),
        sa.Column("lodgment_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("envelope_id", _ID, nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("wire_started_at", _MOMENT),
        sa.Column("finished_at", _MOMENT),
        sa.Column("http_status", sa.Integer()),
        sa.Column("reply_id", _ID),
        sa.Column("content_type", sa.Text()),
        sa.Column("failure_kind", sa.Text()),
        sa.Column("failure_code", sa.Text()),
        sa.Column("failure_detail", sa.Text()),
        sa.Column("failure_advice", sa.Text()),
        sa.Column("failure_who", sa.Text()),
        sa.Column("failure_blast", sa.Text()),
        sa.Column("failure_available_after", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="attempt_pkey"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("attempt_lodgment_id_idx", "attempt", ["lodgment_id"])


def _create_artifact() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", _ID, nullable=False),
        sa.Column("lodgment_id", _ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("codec", sa.Text(), nullable=False),
        sa.Column("payload_id", _ID),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="artifact_pkey"),
        sa.CheckConstraint("kind IN ('envelope', 'payload', 'reply', 'token_reply')", name=op.f("artifact_kind_check")),
        postgresql_partition_by="RANGE (id)",
    )


def _create_message_event() -> None:
    op.create_table(
        "message_event",
        sa.Column("id", _ID, nullable=False),
        sa.Column("lodgment_id", _ID, nullable=False),
        sa.Column("attempt_id", _ID, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("location", sa.Text()),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="message_event_pkey"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("message_event_lodgment_id_idx", "message_event", ["lodgment_id"])


def _create_attachment() -> None:
    op.create_table(
        "attachment",
        sa.Column("id", _ID, nullable=False),
        sa.Column("lodgment_id", _ID, nullable=False),
        sa.Column("attempt_id", _ID, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("document_type", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("url", sa.Text()),
        sa.Column("document_number", sa.Text()),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="attachment_pkey"),
        sa.ForeignKeyConstraint(["lodgment_id"], ["lodgment.id"], name="attachment_lodgment_id_fkey"),
    )
    op.create_index("attachment_lodgment_id_idx", "attachment", ["lodgment_id"])


def _create_security_token() -> None:
    op.create_table(
        "security_token",
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("sts", sa.Text(), nullable=False),
        sa.Column("applies_to", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("second_party", sa.Text()),
        sa.Column("software_id", sa.Text()),
        sa.Column("claims", _JSON, nullable=False),
        sa.Column("key_size", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("assertion", sa.LargeBinary()),
        sa.Column("proof_key", sa.LargeBinary()),
        sa.Column("assertion_id", sa.Text()),
        sa.Column("created_at", _MOMENT),
        sa.Column("expires_at", _MOMENT),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_until", _MOMENT),
        sa.Column("failed_code", sa.Text()),
        sa.Column("failed_text", sa.Text()),
        sa.Column("failed_who", sa.Text()),
        sa.Column("retry_at", _MOMENT),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("renewals", sa.Integer(), nullable=False),
        sa.Column("last_used_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name="security_token_pkey"),
        sa.CheckConstraint("state IN ('failed', 'requested', 'valid')", name=op.f("security_token_state_check")),
    )


def _create_quarantine() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", _ID, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text()),
        sa.Column("lodgment_id", _ID),
        sa.Column("message_id", sa.Text()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("released_at", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="quarantine_pkey"),
    )
    _partial_index("quarantine_kept_idx", "quarantine", ["id"], "released_at IS NULL")


def _create_operator_action() -> None:
    op.create_table(
        "operator_action",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("lodgment_id", _ID),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="operator_action_pkey"),
        sa.ForeignKeyConstraint(["lodgment_id"], ["lodgment.id"], name="operator_action_lodgment_id_fkey"),
    )
    op.create_index("operator_action_lodgment_id_idx", "operator_action", ["lodgment_id"])


def _partial_index(name: str, table: str, columns: list[str], predicate: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(predicate), sqlite_where=sa.text(predicate))


def _prepare_partitions() -> None:
    # The bytes are compressed and sealed: PostgreSQL would only waste time on trying to compress them again.
    op.execute("ALTER TABLE artifact ALTER COLUMN content SET STORAGE EXTERNAL")
    for table in _PARTITIONED:
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
    create_missing(op.get_bind(), _PARTITIONED, datetime.now(UTC))
