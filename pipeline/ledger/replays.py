"""Replays: their rows. Whoever changes one has it locked; its lodgments are locked after it."""

from dataclasses import fields
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from pipeline.ledger.session import Tx
from pipeline.ledger.tables import BUSY_REPLAY, replay
from pipeline.lodgment.replay import Mode
from pipeline.lodgment.replay_pace import Pace
from pipeline.lodgment.replay_run import Replay, ReplayState


async def add(tx: Tx, one: Replay) -> None:
    """Keep a new replay."""
    await tx.connection.execute(sa.insert(replay), _values(one))


async def change(tx: Tx, one: Replay) -> None:
    """Write a replay that this transaction has locked."""
    values = _values(one)
    await tx.connection.execute(_change(), {"which": values.pop("id"), **values})


async def lock(tx: Tx, replay_id: UUID) -> Replay | None:
    """One replay, which nobody else changes before this transaction ends."""
    rows = await tx.connection.execute(_by_id().with_for_update(), {"id": replay_id})
    row = rows.one_or_none()
    return None if row is None else _replay(row)


async def load(tx: Tx, replay_id: UUID) -> Replay | None:
    """One replay as it is."""
    row = (await tx.connection.execute(_by_id(), {"id": replay_id})).one_or_none()
    return None if row is None else _replay(row)


async def list_(tx: Tx, limit: int) -> list[Replay]:
    """The newest replays first."""
    return [_replay(row) for row in await tx.connection.execute(_list(), {"limit": limit})]


async def beginning_with(tx: Tx, text: str) -> list[Replay]:
    """The replays whose id begins so, as people type it; three at most."""
    return [_replay(row) for row in await tx.connection.execute(_beginning(), {"text": text.lower()})]


async def any_busy(tx: Tx) -> bool:
    """Whether there is anything to do for any replay."""
    return (await tx.connection.execute(_busy().limit(1))).first() is not None


async def take(tx: Tx, replay_id: UUID | None) -> Replay | None:
    """The next replay after this one that there is anything to do for; locked, without what another scheduler has."""
    after = replay_id or UUID(int=0)
    row = (await tx.connection.execute(_take(), {"after": after})).one_or_none()
    return None if row is None else _replay(row)


async def running(tx: Tx) -> dict[str, int]:
    """How many replays are running, paused or halted."""
    rows = await tx.connection.execute(_running())
    return {row.state: row.number for row in rows}


def _values(one: Replay) -> dict[str, Any]:
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    values["pace"] = None if one.pace is None else _paces().dump_python(one.pace, mode="json")
    return values


def _replay(row: sa.Row[Any]) -> Replay:
    values = dict(row._mapping)  # noqa: SLF001  - SQLAlchemy's public name for it
    values["mode"] = Mode(values["mode"])
    values["state"] = ReplayState(values["state"])
    values["pace"] = None if values["pace"] is None else _paces().validate_python(values["pace"])
    return Replay(**values)


@cache
def _paces() -> TypeAdapter[Pace]:
    return TypeAdapter(Pace)


@cache
def _change() -> sa.Executable:
    return sa.update(replay).where(replay.c.id == sa.bindparam("which", type_=replay.c.id.type))


@cache
def _by_id() -> sa.Select[Any]:
    return sa.select(replay).where(replay.c.id == sa.bindparam("id", type_=replay.c.id.type))


@cache
def _list() -> sa.Select[Any]:
    return sa.select(replay).order_by(replay.c.id.desc()).limit(sa.bindparam("limit", type_=sa.Integer))


@cache
def _beginning() -> sa.Select[Any]:
    text = sa.cast(replay.c.id, sa.Text)
    return sa.select(replay).where(text.startswith(sa.bindparam("text", type_=sa.Text), autoescape=False)).limit(3)


@cache
def _busy() -> sa.Select[Any]:
    return sa.select(replay).where(BUSY_REPLAY)


@cache
def _take() -> sa.Select[Any]:
    after = sa.bindparam("after", type_=replay.c.id.type)
    return _busy().where(replay.c.id > after).order_by(replay.c.id).limit(1).with_for_update(skip_locked=True)


@cache
def _running() -> sa.Select[Any]:
    open_ = (ReplayState.RUNNING, ReplayState.PAUSED, ReplayState.HALTED)
    return (
        sa.select(replay.c.state, sa.func.count().label("number"))
        .where(replay.c.state.in_(open_))
        .group_by(replay.c.state)
    )
