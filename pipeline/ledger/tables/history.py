"""What happened to each lodgment: attempts, documents and what the agency said."""

from enum import StrEnum

import sqlalchemy as sa

from pipeline.ledger.tables.columns import Id, Json, Moment, metadata, quoted


class ArtifactKind(StrEnum):
    """What a stored document is."""

    PAYLOAD = "payload"
    ENVELOPE = "envelope"
    REPLY = "reply"
    TOKEN_REPLY = "token_reply"  # noqa: S105  - a kind of document, not a secret


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
