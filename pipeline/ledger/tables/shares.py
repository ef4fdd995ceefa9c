"""The tables of fair shares: what each sender has used, and the jobs that wait for their sender's turn."""

import sqlalchemy as sa

from pipeline.ledger.tables.columns import Id, Moment, metadata

sender_share = sa.Table(
    "sender_share",
    metadata,
    sa.Column("sender_id", sa.Text, primary_key=True),
    sa.Column("virtual_at", Moment, nullable=False),
)
"""How far each sender's jobs have moved its virtual time on."""

waiting_job = sa.Table(
    "waiting_job",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("sender_id", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text),
    sa.Column("tag", Moment, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("received_at", Moment, nullable=False),
    sa.Column("taken_until", Moment),
    sa.Column("takes", sa.Integer, nullable=False),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
"""Jobs as their producers wrote them, sealed, that wait until it is their sender's turn: nothing was done with them."""

sa.Index("waiting_job_tag_idx", waiting_job.c.tag, waiting_job.c.id)
sa.Index("waiting_job_sender_idx", waiting_job.c.sender_id)
sa.Index("waiting_job_job_idx", waiting_job.c.job_id)
