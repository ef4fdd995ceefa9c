"""The watch over what was sent: which lodgments it has to look at, and what people were told of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode, recordset
from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import NOT_FINAL, lodgment
from pipeline.lodgment.deadlines import Nearness
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.watching import Lateness

_ORDER = tuple(Nearness)


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


@dataclass(frozen=True, slots=True)
class Near:
    """How many lodgments of one channel are not final although their due date is near, and the earliest of those."""

    channel: str
    nearness: Nearness
    count: int
    due: date
    example: UUID


async def near_due(tx: Tx, nearness: Nearness, until: date, limit: int) -> list[Lodgment]:
    """Lodgments that are not final, due until then, and of which nobody was told so much yet; earliest first."""
    told = encode([one for one in Nearness if _ORDER.index(one) >= _ORDER.index(nearness)])
    rows = await tx.connection.execute(_near_due(tx.dialect), {"until": until, "keys": told, "limit": limit})
    return [lodgment_of(row) for row in rows]


async def near_told(tx: Tx, ids: Collection[UUID], nearness: Nearness) -> set[UUID]:
    """Note what was told of these; the ids of those of which it was not noted before."""
    if not ids:
        return set()
    values = {"keys": encode(sorted(ids)), "told": nearness}
    return set((await tx.connection.execute(_near_told(tx.dialect), values)).scalars())


async def near(tx: Tx, until: date) -> list[Near]:
    """What people were told of due dates until then and what is still so, by channel; the gravest first."""
    rows = await tx.connection.execute(_near(), {"until": until})
    found = [Near(row.channel, Nearness(row.due_warned), row.number, row.due, UUID(row.example)) for row in rows]
    return sorted(found, key=lambda one: -_ORDER.index(one.nearness))


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
def _near_due(dialect: Dialect) -> sa.Executable:
    told = among(dialect, lodgment.c.due_warned)
    return (
        sa.select(*COLUMNS)
        .where(_due_until(), sa.or_(lodgment.c.due_warned.is_(None), ~told))
        .order_by(lodgment.c.due_date)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


def _due_until() -> sa.ColumnElement[bool]:
    until = lodgment.c.due_date <= sa.bindparam("until", type_=sa.Date)
    return sa.and_(lodgment.c.due_date.is_not(None), NOT_FINAL, until)


@cache
def _near_told(dialect: Dialect) -> sa.Executable:
    told = sa.bindparam("told", type_=sa.Text)
    return (
        sa.update(lodgment)
        .values(due_warned=told)
        .where(among(dialect, lodgment.c.id), lodgment.c.due_warned.is_distinct_from(told))
        .returning(lodgment.c.id)
    )


@cache
def _near() -> sa.Executable:
    shown = (lodgment.c.channel, lodgment.c.due_warned)
    return (
        sa.select(
            *shown,
            sa.func.count().label("number"),
            sa.func.min(lodgment.c.due_date).label("due"),
            sa.type_coerce(sa.func.min(sa.cast(lodgment.c.id, sa.Text)), sa.Text).label("example"),
        )
        .where(_due_until(), lodgment.c.due_warned.is_not(None))
        .group_by(*shown)
        .order_by(*shown)
    )


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
