"""What a lane has lodged, final events included: what a full file replacement is judged by."""

from collections.abc import Collection
from functools import cache
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.lanes import keys_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import lodgment
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.replacement import LaneEvent
from pipeline.lodgment.states import State


async def before(tx: Tx, rows: Collection[Lodgment]) -> dict[UUID, list[LaneEvent]]:
    """For each lodgment the events of its lane that were taken in before it, in order.

    Reads a lane's whole history: as many rows as a payer has paydays. Only replacements, which are few, need it.
    """
    lanes: dict[str, list[LaneEvent]] = {}
    keys = keys_of(rows)
    if keys:
        for found in await tx.connection.execute(_events(tx.dialect), {"keys": encode(keys)}):
            event = LaneEvent(
                found.id,
                found.submission_id,
                State(found.state),
                replaces=bool(found.facts.get("replaces")),
                updates=bool(found.facts.get("updates")),
            )
            lanes.setdefault(found.order_key, []).append(event)
    return {row.id: [event for event in lanes.get(row.order_key or "", ()) if event.id < row.id] for row in rows}


@cache
def _events(dialect: Dialect) -> sa.Executable:
    shown = (lodgment.c.id, lodgment.c.order_key, lodgment.c.submission_id, lodgment.c.state, lodgment.c.facts)
    return (
        sa.select(*shown)
        .where(among(dialect, lodgment.c.order_key), lodgment.c.submission_id.is_not(None))
        .order_by(lodgment.c.id)
    )
