"""What the ledger keeps of itself and of those who run it: its identity, sweeps, quarantine, actions, software ids."""

import sqlalchemy as sa

from pipeline.ledger.tables.columns import Id, Moment, metadata, quoted
from pipeline.lodgment.subscription import Checked, Origin

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
    # By which a message is known that comes a second time; none in rows of releases before this column.
    sa.Column("identity", sa.Text),
)
sa.Index(
    "quarantine_identity_idx",
    quarantine.c.identity,
    unique=True,
    postgresql_where=quarantine.c.released_at.is_(None),
    sqlite_where=quarantine.c.released_at.is_(None),
)
sa.Index(
    "quarantine_kept_idx",
    quarantine.c.id,
    postgresql_where=quarantine.c.released_at.is_(None),
    sqlite_where=quarantine.c.released_at.is_(None),
)

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
