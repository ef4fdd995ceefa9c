"""Lanes: lodgments that share an order key go out one at a time, in the order in which they were taken in.

What was sent and is not final has the lane, else the earliest that is not final. Each question costs the same however
many wait in the lane.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import NOT_FINAL, lodgment
from pipeline.lodgment.lodgment import LANE_TURN, Lodgment
from pipeline.lodgment.states import State

COUNTED = 100
"""How many of those before a lodgment are counted at most."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A lane that waits: who has it, and how many wait behind."""

    first: Lodgment
    waiting: int


async def lock(tx: Tx, order_keys: Collection[str]) -> None:
    """Be alone in these lanes until the transaction ends: take this before any row.

    Without it, two workers that look at one lane in the same instant could each find it free, and a lodgment that parks
    while the one before it becomes final could sleep on.
    """
    if order_keys and tx.dialect is Dialect.POSTGRESQL:  # SQLite has one writer at a time
        await tx.connection.execute(_lock(), {"keys": encode(sorted(order_keys))})


async def blocked(tx: Tx, ids: Collection[UUID]) -> dict[UUID, int]:
    """Those that were never sent and must wait for others in their lane, each with how many are before it, up to 100.

    Two intakes may store a lane's lodgments in another order than their ids have: what was sent is never overtaken.
    """
    if not ids:
        return {}
    rows = await tx.connection.execute(_blocked(tx.dialect), {"keys": encode(ids)})
    return {row.id: max(1, row.before) for row in rows}


async def next_turn(tx: Tx, order_keys: Collection[str]) -> list[Lodgment]:
    """For each key the earliest lodgment that is not final, if it is parked for its turn and the lane is free."""
    if not order_keys:
        return []
    rows = await tx.connection.execute(_next_turn(tx.dialect), {"keys": encode(order_keys)})
    return [lodgment_of(row) for row in rows]


async def holder(tx: Tx, row: Lodgment) -> Lodgment | None:
    """Whom this lodgment waits for in its lane; None where it waits for nobody."""
    if row.order_key is None or row.sent_at is not None:
        return None
    keys = {"order_key": row.order_key, "id": row.id}
    for statement in (_sent_one(), _first_before()):
        found = (await tx.connection.execute(statement, keys)).one_or_none()
        if found is not None:
            return lodgment_of(found)
    return None


async def longest(tx: Tx, limit: int) -> list[Blocked]:
    """The lanes in which most lodgments wait for their turn, with who has each. Reads what is parked for its turn."""
    waiting = (await tx.connection.execute(_longest(), {"limit": limit})).all()
    found = []
    for number, example in waiting:
        last = (await tx.connection.execute(_by_id(), {"id": UUID(example)})).one()
        first = await holder(tx, lodgment_of(last))
        if first is not None:
            found.append(Blocked(first, number))
    return found


def keys_of(rows: Collection[Lodgment]) -> set[str]:
    """The lanes that these are in."""
    return {row.order_key for row in rows if row.order_key is not None}


@cache
def _lock() -> sa.Executable:
    # Sorted, so that two batches wait for each other instead of deadlocking. A collision of hashes costs a wait.
    return sa.text(
        "SELECT pg_advisory_xact_lock(number) FROM (SELECT DISTINCT hashtextextended(value, 0) AS number"
        " FROM json_array_elements_text(CAST(:keys AS json)) ORDER BY number OFFSET 0) AS sorted"
    )


def _sent_in_lane() -> sa.ColumnElement[bool]:
    sent = lodgment.alias("sent")
    return sa.exists().where(
        sent.c.order_key == lodgment.c.order_key, sent.c.sent_at.is_not(None), NOT_FINAL, sent.c.id != lodgment.c.id
    )


@cache
def _blocked(dialect: Dialect) -> sa.Executable:
    earlier = lodgment.alias("earlier")
    some = (
        sa.select(earlier.c.id)
        .where(earlier.c.order_key == lodgment.c.order_key, earlier.c.id < lodgment.c.id, NOT_FINAL)
        .limit(COUNTED)
        .correlate(lodgment)
        .subquery("some")
    )
    before = sa.select(sa.func.count()).select_from(some).scalar_subquery().label("before")
    candidates = (
        sa.select(lodgment.c.id, before, _sent_in_lane().label("taken"))
        .where(among(dialect, lodgment.c.id), lodgment.c.sent_at.is_(None), lodgment.c.order_key.is_not(None))
        .subquery("candidates")
    )
    return sa.select(candidates.c.id, candidates.c.before).where(sa.or_(candidates.c.before > 0, candidates.c.taken))


@cache
def _next_turn(dialect: Dialect) -> sa.Executable:
    keys = sa.bindparam("keys", type_=sa.Text)
    if dialect is Dialect.SQLITE:
        each = sa.func.json_each(keys).table_valued("value", name="lane")
    else:
        each = sa.func.json_array_elements_text(sa.cast(keys, sa.JSON)).table_valued("value", name="lane")
    head = lodgment.alias("head")
    first = (
        sa.select(head.c.id)
        .where(head.c.order_key == each.c.value, NOT_FINAL)
        .order_by(head.c.id)
        .limit(1)
        .correlate(each)
        .scalar_subquery()
    )
    return sa.select(*COLUMNS).where(
        lodgment.c.id.in_(sa.select(first).select_from(each)),
        lodgment.c.state == State.PARKED,
        lodgment.c.reason_code == LANE_TURN,
        ~_sent_in_lane(),
    )


def _in_lane(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    this = lodgment.c.id.type
    return (
        sa.select(*COLUMNS)
        .where(
            lodgment.c.order_key == sa.bindparam("order_key", type_=sa.Text),
            lodgment.c.id != sa.bindparam("id", type_=this),
            NOT_FINAL,
            *conditions,
        )
        .order_by(lodgment.c.id)
        .limit(1)
    )


@cache
def _sent_one() -> sa.Select[Any]:
    return _in_lane(lodgment.c.sent_at.is_not(None))


@cache
def _first_before() -> sa.Select[Any]:
    return _in_lane(lodgment.c.id < sa.bindparam("id", type_=lodgment.c.id.type))


@cache
def _by_id() -> sa.Select[Any]:
    return sa.select(*COLUMNS).where(lodgment.c.id == sa.bindparam("id", type_=lodgment.c.id.type))


@cache
def _longest() -> sa.Executable:
    number = sa.func.count().label("number")
    example = sa.type_coerce(sa.func.max(sa.cast(lodgment.c.id, sa.Text)), sa.Text)
    return (
        sa.select(number, example)
        .where(lodgment.c.due_at.is_not(None), lodgment.c.state == State.PARKED, lodgment.c.reason_code == LANE_TURN)
        .group_by(lodgment.c.order_key)
        .order_by(number.desc(), lodgment.c.order_key)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
