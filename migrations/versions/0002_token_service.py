"""Breakers that all processes share, the queue of tokens to ask for, and the look-ahead for lodgments with a time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

_TOKEN_COLUMNS = (
    ("wanted_until", _MOMENT),
    ("ask_turn", sa.SmallInteger()),
    ("ask_at", _MOMENT),
    ("failures", sa.Integer()),
    ("unsettled_at", _MOMENT),
)
_TOKEN_INDEXES = (
    ("security_token_ask_idx", ["sts", "ask_turn", "ask_at"], "ask_at IS NOT NULL"),
    ("security_token_lease_idx", ["lease_until"], "lease_until IS NOT NULL"),
    ("security_token_unsettled_idx", ["unsettled_at"], "unsettled_at IS NOT NULL"),
    ("security_token_second_party_idx", ["second_party"], None),
)
_AHEAD = "state = 'parked' AND reason_code = 'job.not-before' AND token_key IS NULL"


def upgrade() -> None:
    _create_channel_state()
    for name, kind in _TOKEN_COLUMNS:
        op.add_column("security_token", sa.Column(name, kind))
    for name, columns, predicate in _TOKEN_INDEXES:
        where = None if predicate is None else sa.text(predicate)
        op.create_index(name, "security_token", columns, postgresql_where=where, sqlite_where=where)
    # Lodgments are many, and the workers go on meanwhile.
    with op.get_context().autocommit_block():
        op.create_index(
            "lodgment_ahead_idx",
            "lodgment",
            ["due_at"],
            postgresql_where=sa.text(_AHEAD),
            sqlite_where=sa.text(_AHEAD),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("lodgment_ahead_idx", "lodgment")
    for name, _, _ in _TOKEN_INDEXES:
        op.drop_index(name, "security_token")
    for name, _ in reversed(_TOKEN_COLUMNS):
        op.drop_column("security_token", name)
    op.drop_table("channel_state")


def _create_channel_state() -> None:
    op.create_table(
        "channel_state",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause_code", sa.Text()),
        sa.Column("cause_text", sa.Text()),
        sa.Column("cause_who", sa.Text()),
        sa.Column("opened_at", _MOMENT),
        sa.Column("probe_at", _MOMENT),
        sa.Column("openings", sa.Integer(), nullable=False),
        sa.Column("consecutive", sa.Integer(), nullable=False),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("window_since", _MOMENT),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("step_since", _MOMENT),
        sa.Column("step_spent", sa.Integer(), nullable=False),
        sa.Column("allowance", sa.Double(), nullable=False),
        sa.Column("allowed_at", _MOMENT),
        sa.PrimaryKeyConstraint("scope", "name", name="channel_state_pkey"),
        sa.CheckConstraint("scope IN ('channel', 'credential', 'sts')", name=op.f("channel_state_scope_check")),
        sa.CheckConstraint("state IN ('closed', 'open', 'probing', 'ramping')", name=op.f("channel_state_state_check")),
    )
