"""What live lodgments take on their way: what a replay must not make longer."""

from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.session import Tx
from pipeline.ledger.tables import lodgment
from pipeline.lodgment.references import earliest_id
from pipeline.lodgment.replay_pace import Leg
from pipeline.lodgment.states import FINAL, NEXT_STEP, State

_TIMED = sorted({*NEXT_STEP, State.SENDING, State.AWAITING, *FINAL} - {State.CANCELLED})
"""What waits for a token, a turn, a person or after a failure waits for something else than us."""


async def taken(tx: Tx, since: datetime, until: datetime, now: datetime, limit: int) -> dict[Leg, list[float]]:
    """What lodgments took that were received in this time, in seconds: the last `limit` of them that were not replayed
    and needed one request at most.
    """
    values = {"first": earliest_id(since), "last": earliest_id(until), "limit": limit}
    found: dict[Leg, list[float]] = {leg: [] for leg in Leg}
    for row in await tx.connection.execute(_taken(), values):
        sent_at = row.sent_at or (now if row.finished_at is None else None)
        if sent_at is not None:
            found[Leg.SENT].append((sent_at - row.received_at).total_seconds())
        if row.finished_at is not None:
            found[Leg.FINAL].append((row.finished_at - row.received_at).total_seconds())
    return found


@cache
def _taken() -> sa.Select[Any]:
    # Ids are ordered by time: the primary key finds the last ones without an index of their own.
    key = lodgment.c.id
    return (
        sa.select(lodgment.c.received_at, lodgment.c.sent_at, lodgment.c.finished_at)
        .where(
            key >= sa.bindparam("first", type_=key.type),
            key < sa.bindparam("last", type_=key.type),
            lodgment.c.replayed_at.is_(None),
            lodgment.c.attempts <= 1,
            lodgment.c.state.in_(_TIMED),
        )
        .order_by(key.desc())
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
