"""What is not final: why it waits or is held, what is late. For operators; each question reads open lodgments only."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import HELD, lodgment
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.states import WAITING, State


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """Lodgments that wait, or are held, for one reason. `next_at` is None for held ones: nothing wakes them."""

    state: State
    code: str
    who: Party
    count: int
    oldest: datetime
    next_at: datetime | None
    example: UUID


@dataclass(frozen=True, slots=True)
class DueDay:
    """How many open lodgments the agency must have by one day."""

    day: date
    count: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """What the scheduler should have looked at already; `since` is the longest due."""

    count: int
    since: datetime | None


async def reasons(tx: Tx) -> list[WaitingFor]:
    """Held and waiting lodgments by state and reason; held ones first, then the most."""
    rows = await tx.connection.execute(_reasons())
    found = [
        WaitingFor(
            state=State(row.state),
            code=row.reason_code or "",
            who=Party(row.reason_who or Party.NOBODY),
            count=row.number,
            oldest=row.oldest,
            next_at=row.next_at,
            example=UUID(row.example),
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.state is not State.HELD, -one.count, one.code))


async def due_days(tx: Tx, until: date) -> list[DueDay]:
    """Open lodgments with a due date up to `until`, the earliest day first."""
    rows = await tx.connection.execute(_due_days(), {"until": until})
    return [DueDay(row.due_date, row.number) for row in rows]


async def overdue(tx: Tx, before: datetime) -> Overdue:
    """Lodgments that were due before `before` and that no scheduler took."""
    row = (await tx.connection.execute(_overdue(), {"before": before})).one()
    return Overdue(row.number, row.since)


async def held_for(tx: Tx, code: str, limit: int) -> list[Lodgment]:
    """Lodgments that are held for one reason that stops nobody else, the oldest first."""
    rows = await tx.connection.execute(_held_for(), {"code": code, "limit": limit})
    return [lodgment_of(row) for row in rows]


def _number() -> sa.Label[int]:
    return sa.func.count().label("number")


def _open(*columns: sa.ColumnElement[Any]) -> sa.Subquery:
    """Open lodgments in two parts, because each has its index: what is due some day, and what is held."""
    chosen = sa.select(*columns)
    return sa.union_all(chosen.where(lodgment.c.due_at.is_not(None)), chosen.where(HELD)).subquery()


@cache
def _reasons() -> sa.Select[Any]:
    table = lodgment.c
    rows = _open(table.id, table.state, table.reason_code, table.reason_who, table.received_at, table.due_at).c
    shown = (rows.state, rows.reason_code, rows.reason_who)
    return (
        sa.select(
            *shown,
            _number(),
            sa.func.min(rows.received_at).label("oldest"),
            sa.func.min(rows.due_at).label("next_at"),
            # PostgreSQL before 18 has no min() of UUIDs; as text they sort the same.
            sa.type_coerce(sa.func.min(sa.cast(rows.id, sa.Text)), sa.Text).label("example"),
        )
        .where(rows.state.in_(sorted({*WAITING, State.HELD})))
        .group_by(*shown)
    )


@cache
def _due_days() -> sa.Select[Any]:
    rows = _open(lodgment.c.due_date).c
    until = sa.bindparam("until", type_=sa.Date)
    return (
        sa.select(rows.due_date, _number())
        .where(rows.due_date <= until)
        .group_by(rows.due_date)
        .order_by(rows.due_date)
    )


@cache
def _overdue() -> sa.Executable:
    due = lodgment.c.due_at
    return sa.select(_number(), sa.func.min(due).label("since")).where(due < sa.bindparam("before", type_=due.type))


@cache
def _held_for() -> sa.Select[Any]:
    return (
        sa.select(*COLUMNS)
        .where(HELD, lodgment.c.reason_code == sa.bindparam("code", type_=sa.Text), lodgment.c.hold_id.is_(None))
        .order_by(lodgment.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
