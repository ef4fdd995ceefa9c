"""What became of a replay: in what its lodgments ended, all together and one by one."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.session import Tx
from pipeline.ledger.tables import lodgment, replay_item
from pipeline.lodgment.replay import Known, Mode
from pipeline.lodgment.replay_run import ItemState
from pipeline.lodgment.states import State


@dataclass(frozen=True, slots=True)
class Item:
    """One lodgment of a replay, as it was when the list was frozen and as its replay ended."""

    lodgment_id: UUID
    job_id: str
    state: ItemState
    known: Known
    was_state: State
    was_code: str | None
    mode: Mode | None
    stage: int | None
    started_at: datetime | None
    ended_at: datetime | None
    end_state: State | None
    end_code: str | None
    successor_id: UUID | None
    now_state: State


@dataclass(frozen=True, slots=True)
class Result:
    """How many lodgments of a replay ended alike; `again` where it is the code that they had before."""

    state: State
    code: str | None
    failed: bool
    again: bool
    count: int


async def results(tx: Tx, replay_id: UUID) -> list[Result]:
    """In what the lodgments of a replay ended, the most first."""
    rows = await tx.connection.execute(_results(), {"of_replay": replay_id})
    return [Result(State(r.end_state), r.end_code, bool(r.failed), bool(r.again), r.number) for r in rows]


async def list_(tx: Tx, replay_id: UUID, state: ItemState | None, limit: int) -> list[Item]:
    """Single lodgments of a replay in the order of their turns, of one state where that is given."""
    rows = await tx.connection.execute(_list(), {"of_replay": replay_id, "wanted": state, "limit": limit})
    return [_item(row) for row in rows]


def _of() -> sa.ColumnElement[bool]:
    return replay_item.c.replay_id == sa.bindparam("of_replay", type_=replay_item.c.replay_id.type)


@cache
def _results() -> sa.Select[Any]:
    again = sa.func.coalesce(replay_item.c.end_code == replay_item.c.was_code, sa.false()).label("again")
    shown = (replay_item.c.end_state, replay_item.c.end_code, replay_item.c.failed)
    number = sa.func.count().label("number")
    return (
        sa.select(*shown, again, number)
        .where(_of(), replay_item.c.ended_at.is_not(None))
        .group_by(*shown, again)
        .order_by(sa.desc("number"), *shown)
    )


@cache
def _list() -> sa.Select[Any]:
    wanted = sa.bindparam("wanted", type_=sa.Text)
    went = sa.func.coalesce(replay_item.c.successor_id, replay_item.c.lodgment_id)
    return (
        sa.select(replay_item, lodgment.c.job_id, lodgment.c.state.label("now_state"))
        .join(lodgment, lodgment.c.id == went)
        .where(_of(), sa.or_(wanted.is_(None), replay_item.c.state == wanted))
        .order_by(replay_item.c.lodgment_id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


def _item(row: sa.Row[Any]) -> Item:
    return Item(
        lodgment_id=row.lodgment_id,
        job_id=row.job_id,
        state=ItemState(row.state),
        known=Known(row.known),
        was_state=State(row.was_state),
        was_code=row.was_code,
        mode=Mode(row.mode) if row.mode else None,
        stage=row.stage,
        started_at=row.started_at,
        ended_at=row.ended_at,
        end_state=State(row.end_state) if row.end_state else None,
        end_code=row.end_code,
        successor_id=row.successor_id,
        now_state=State(row.now_state),
    )
