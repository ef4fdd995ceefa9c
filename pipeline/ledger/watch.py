"""The watch over what was sent: which lodgments it has to look at, and what people were told of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, encode, recordset
from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import NOT_FINAL, lodgment
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.watching import Lateness


@dataclass(frozen=True, slots=True)
class Watched:
    """A lodgment to look at, and what was told of it already."""

    lodgment: Lodgment
    told: Lateness | None


@dataclass(frozen=True, slots=True)
class Late:
    """How many lodgments one channel is late with, and when the first of them was sent."""

    channel: str
    lateness: Lateness
    count: int
    since: datetime


async def due(tx: Tx, now: datetime, limit: int) -> list[Watched]:
    """What is to be looked at, longest due first; locked on PostgreSQL, without what another scheduler has."""
    rows = await tx.connection.execute(_due(), {"now": now, "limit": limit})
    return [Watched(lodgment_of(row), Lateness(row.warned) if row.warned else None) for row in rows]


async def looked(tx: Tx, seen: Sequence[tuple[UUID, datetime | None, Lateness | None]]) -> None:
    """Write when to look at each again, and what is told of it by now. Where it is does not change.

    A move that was under way may put the old time back: then it is looked at once more, and nothing is told twice.
    """
    if seen:
        batch = [
            {"id": lodgment_id, "watch_at": again_at, "warned": told}
            for lodgment_id, again_at, told in sorted(seen, key=lambda one: one[0])
        ]
        await tx.connection.execute(_looked(tx.dialect), {"batch": encode(batch)})


async def late(tx: Tx) -> list[Late]:
    """What people were told of and what is still so, by channel."""
    rows = await tx.connection.execute(_late())
    return [Late(row.channel, Lateness(row.warned), row.number, row.since) for row in rows]


@cache
def _due() -> sa.Executable:
    return (
        sa.select(*COLUMNS, lodgment.c.warned)
        .where(lodgment.c.watch_at <= sa.bindparam("now", type_=lodgment.c.watch_at.type))
        .order_by(lodgment.c.watch_at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


@cache
def _looked(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, (lodgment.c.id, lodgment.c.watch_at, lodgment.c.warned))
    changed = {"watch_at": rows.c.watch_at, "warned": rows.c.warned}
    return sa.update(lodgment).values(changed).where(lodgment.c.id == rows.c.id)


@cache
def _late() -> sa.Executable:
    arrived = sa.and_(lodgment.c.warned == Lateness.RECEIPT, lodgment.c.agency_reference.is_not(None))
    shown = (lodgment.c.channel, lodgment.c.warned)
    return (
        sa.select(*shown, sa.func.count().label("number"), sa.func.min(lodgment.c.sent_at).label("since"))
        .where(lodgment.c.warned.is_not(None), NOT_FINAL, ~arrived)
        .group_by(*shown)
        .order_by(*shown)
    )
