"""Jobs that wait for their sender's turn before they are taken in, and an index of what is under way."""

import sqlalchemy as sa
from alembic import op

from pipeline.lodgment.errors import RefusedError

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.Uuid().with_variant(sa.Text(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_UNDER_WAY = ("lodgment_under_way_idx", ["id"], "state IN ('authorised', 'received', 'sealed') AND replayed_at IS NULL")
_PARKED_FOR_TURN = ("lodgment_share_idx", ["due_at"], "state = 'parked' AND reason_code = 'share.turn'")


def upgrade() -> None:
    op.create_table(
        "waiting_job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text()),
        sa.Column("tag", _MOMENT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("taken_until", _MOMENT),
        sa.Column("takes", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="waiting_job_pkey"),
    )
    op.create_index("waiting_job_tag_idx", "waiting_job", ["tag", "id"])
    op.create_index("waiting_job_sender_idx", "waiting_job", ["sender_id"])
    op.create_index("waiting_job_job_idx", "waiting_job", ["job_id"])
    _replace(_PARKED_FOR_TURN, _UNDER_WAY)


def downgrade() -> None:
    if op.get_bind().execute(sa.text("SELECT 1 FROM waiting_job LIMIT 1")).first() is not None:
        text = "jobs wait in waiting_job, and are nowhere else: let the intake take them in first"
        raise RefusedError("db.jobs_wait", text)
    _replace(_UNDER_WAY, _PARKED_FOR_TURN)
    op.drop_table("waiting_job")


def _replace(old: tuple[str, list[str], str], new: tuple[str, list[str], str]) -> None:
    name, columns, predicate = new
    where = sa.text(predicate)
    # Lodgments are many, and the workers go on meanwhile.
    with op.get_context().autocommit_block():
        op.create_index(
            name, "lodgment", columns, postgresql_where=where, sqlite_where=where, postgresql_concurrently=True
        )
        op.drop_index(old[0], "lodgment")
