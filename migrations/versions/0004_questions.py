"""Agencies that answer later: a channel's notes, the gateway that was used, and whom each message event is about."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.Uuid().with_variant(sa.Text(), "sqlite")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")

_REJECTION = """
        SELECT e.id AS event_id, l.id AS lodgment_id, l.reference, l.job_id, l.party_abn AS abn, l.channel,
               l.environment, l.service, l.action, l.state, e.code, e.description, e.location, e.recorded_at{more}
          FROM message_event e JOIN lodgment l ON l.id = e.lodgment_id
         WHERE e.severity = 'Error'"""


def upgrade() -> None:
    op.add_column("lodgment", sa.Column("facts", _JSON, nullable=False, server_default=sa.text("'{}'")))
    op.add_column("lodgment", sa.Column("gateway", sa.Text()))
    op.add_column("message_event", sa.Column("payee", sa.Text()))
    op.add_column("message_event", sa.Column("record", sa.Text()))
    op.create_table(
        "payee_map",
        sa.Column("lodgment_id", _ID, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["lodgment_id"], ["lodgment.id"], name="payee_map_lodgment_id_fkey"),
        sa.PrimaryKeyConstraint("lodgment_id", name="payee_map_pkey"),
    )
    _replace_view(", e.payee, e.record")


def downgrade() -> None:
    _replace_view("")
    op.drop_table("payee_map")
    for table, column in (
        ("message_event", "record"),
        ("message_event", "payee"),
        ("lodgment", "gateway"),
        ("lodgment", "facts"),
    ):
        op.drop_column(table, column)


def _replace_view(more: str) -> None:
    op.execute("DROP VIEW rejection_event")
    op.execute(f"CREATE VIEW rejection_event AS {_REJECTION.format(more=more)}")
