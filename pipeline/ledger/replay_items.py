"""The lodgments of a replay as it runs: started in portions, seen again when they come to rest."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode, recordset
from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import lodgment, replay_item
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.replay import Known, Mode
from pipeline.lodgment.replay_run import AT_DOOR, QUIET, UNSENT, End, ItemState, Recent, Replay
from pipeline.lodgment.states import NEXT_STEP, State

_MARKED = ("state", "known", "mode", "stage", "started_at", "successor_id")
_ENDED = ("ended_at", "end_state", "end_code", "failed")


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to be written of an item whose turn came."""

    lodgment_id: UUID
    state: ItemState
    known: Known
    mode: Mode | None
    successor_id: UUID | None = None


async def portion(tx: Tx, one: Replay, limit: int) -> list[Lodgment]:
    """The lodgments whose turn is next, in order; locked."""
    values = {"of_replay": one.id, "cursor": one.cursor or UUID(int=0), "limit": limit}
    return [lodgment_of(row) for row in await tx.connection.execute(_portion(), values)]


async def mark(tx: Tx, one: Replay, marks: Sequence[Mark], now: datetime) -> None:
    """Write what became of those whose turn came."""
    batch = [
        {
            "lodgment_id": item.lodgment_id,
            "state": item.state,
            "known": item.known,
            "mode": item.mode,
            "stage": one.stage if item.state is ItemState.STARTED else None,
            "started_at": now if item.state is ItemState.STARTED else None,
            "successor_id": item.successor_id,
        }
        for item in marks
    ]
    if batch:
        await tx.connection.execute(_mark(tx.dialect), {"batch": encode(batch), "of_replay": one.id})


async def settled(
    tx: Tx, replay_id: UUID, patient_until: datetime, limit: int
) -> list[tuple[UUID, datetime, Lodgment]]:
    """Items on their way whose lodgment came to rest: the item's id, when it was started, and the lodgment that went
    out, which is another one under a new reference. What only waits, for a token, a turn or the agency's outcome, does
    not count if it was started after `patient_until`.
    """
    values = {"of_replay": replay_id, "patient_until": patient_until, "limit": limit}
    rows = await tx.connection.execute(_settled(), values)
    return [(row.item_id, row.item_started_at, lodgment_of(row)) for row in rows]


async def unsent(tx: Tx, replay_id: UUID) -> int:
    """How many of those on their way no worker has sent yet, and still may: held ones are none of them."""
    return int((await tx.connection.execute(_unsent(), {"of_replay": replay_id})).scalar_one())


async def end(tx: Tx, replay_id: UUID, ends: Sequence[tuple[UUID, End]], now: datetime) -> None:
    """Write in what these ended."""
    batch = [
        {
            "lodgment_id": item_id,
            "ended_at": now,
            "end_state": one.state,
            "end_code": one.code,
            "failed": one.failed,
        }
        for item_id, one in ends
    ]
    if batch:
        await tx.connection.execute(_end(tx.dialect), {"batch": encode(batch), "of_replay": replay_id})


async def recent(tx: Tx, one: Replay, limit: int) -> Recent:
    """What ended last in the replay's stage, since somebody last looked."""
    values = {"of_replay": one.id, "stage": one.stage, "since": one.judged_since, "limit": limit}
    ended, failures = 0, {}
    for row in await tx.connection.execute(_recent(), values):
        ended += row.number
        if row.failed:
            failures[row.end_code or row.end_state] = row.number
    return Recent(ended, failures)


async def drop(tx: Tx, replay_id: UUID) -> int:
    """Let go of those whose turn has not come, so that another replay may have them; how many."""
    return int((await tx.connection.execute(_drop(), {"of_replay": replay_id})).rowcount)


async def restart_watch(tx: Tx, ids: Collection[UUID]) -> None:
    """Forget what people were told of these being late: they begin anew."""
    if ids:
        await tx.connection.execute(_restart_watch(tx.dialect), {"keys": encode(list(ids))})


def _of() -> sa.ColumnElement[bool]:
    return replay_item.c.replay_id == sa.bindparam("of_replay", type_=replay_item.c.replay_id.type)


def _in_state(state: ItemState) -> sa.ColumnElement[bool]:
    # Written out, so that partial indexes are seen to fit.
    return replay_item.c.state == sa.literal_column(f"'{state}'")


def _limit() -> sa.BindParameter[int]:
    return sa.bindparam("limit", type_=sa.Integer)


@cache
def _portion() -> sa.Select[Any]:
    cursor = sa.bindparam("cursor", type_=replay_item.c.lodgment_id.type)
    return (
        sa.select(*COLUMNS)
        .join(replay_item, replay_item.c.lodgment_id == lodgment.c.id)
        .where(_of(), replay_item.c.lodgment_id > cursor, _in_state(ItemState.WAITING))
        .order_by(replay_item.c.lodgment_id)
        .limit(_limit())
        .with_for_update(of=lodgment)
    )


@cache
def _mark(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, (replay_item.c.lodgment_id, *(replay_item.c[name] for name in _MARKED)))
    return (
        sa.update(replay_item)
        .values({name: rows.c[name] for name in _MARKED})
        .where(_of(), replay_item.c.lodgment_id == rows.c.lodgment_id)
    )


def _went() -> sa.ColumnElement[UUID]:
    """The lodgment that goes out for an item."""
    return sa.func.coalesce(replay_item.c.successor_id, replay_item.c.lodgment_id)


@cache
def _unsent() -> sa.Select[Any]:
    on_its_way = lodgment.c.state.in_(sorted(NEXT_STEP))
    return (
        sa.select(sa.func.count())
        .select_from(lodgment)
        .join(replay_item, lodgment.c.id == _went())
        .where(_of(), _in_state(ItemState.STARTED), sa.or_(on_its_way, _parked_for(UNSENT)))
    )


def _parked_for(codes: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.and_(lodgment.c.state == State.PARKED, lodgment.c.reason_code.in_(sorted(codes)))


@cache
def _settled() -> sa.Select[Any]:
    patient = replay_item.c.started_at > sa.bindparam("patient_until", type_=replay_item.c.started_at.type)
    on_its_way = lodgment.c.state.in_(sorted({*NEXT_STEP, State.SENDING}))
    patiently = sa.and_(sa.or_(lodgment.c.state == State.AWAITING, _parked_for(QUIET)), patient)
    only_waits = sa.or_(_parked_for(AT_DOOR), patiently)
    return (
        sa.select(
            *COLUMNS,
            replay_item.c.lodgment_id.label("item_id"),
            replay_item.c.started_at.label("item_started_at"),
        )
        .join(replay_item, lodgment.c.id == _went())
        .where(
            _of(),
            _in_state(ItemState.STARTED),
            sa.not_(on_its_way),
            sa.func.coalesce(only_waits, sa.false()).is_(False),
        )
        .limit(_limit())
    )


@cache
def _end(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, (replay_item.c.lodgment_id, *(replay_item.c[name] for name in _ENDED)))
    return (
        sa.update(replay_item)
        .values({name: rows.c[name] for name in _ENDED} | {"state": ItemState.ENDED})
        .where(_of(), replay_item.c.lodgment_id == rows.c.lodgment_id)
    )


@cache
def _recent() -> sa.Select[Any]:
    since = sa.bindparam("since", type_=replay_item.c.ended_at.type)
    shown = ("end_state", "end_code", "failed")
    last = (
        sa.select(*(replay_item.c[name] for name in shown))
        .where(
            _of(),
            replay_item.c.stage == sa.bindparam("stage", type_=sa.Integer),
            replay_item.c.ended_at >= since,
        )
        .order_by(replay_item.c.ended_at.desc())
        .limit(_limit())
        .subquery("last")
    )
    # Failures of one code in two states are one failure.
    code = sa.func.coalesce(last.c.end_code, last.c.end_state)
    return sa.select(
        code.label("end_code"),
        sa.func.min(last.c.end_state).label("end_state"),
        last.c.failed,
        sa.func.count().label("number"),
    ).group_by(code, last.c.failed)


@cache
def _drop() -> sa.Executable:
    which = replay_item.c.replay_id == sa.bindparam("of_replay", type_=replay_item.c.replay_id.type)
    return sa.update(replay_item).values(state=ItemState.DROPPED).where(which, _in_state(ItemState.WAITING))


@cache
def _restart_watch(dialect: Dialect) -> sa.Executable:
    return sa.update(lodgment).values(warned=None).where(among(dialect, lodgment.c.id), lodgment.c.warned.is_not(None))
