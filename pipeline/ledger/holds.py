"""Holds in the ledger. Whoever takes several locks takes them in this order: lanes, holds, lodgments."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, among, encode, recordset
from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import OPEN_HOLD, hold, lodgment
from pipeline.lodgment.failures import Blast, Party
from pipeline.lodgment.holds import Hold, HoldState, Reach, reaches
from pipeline.lodgment.lodgment import Lodgment, Purpose
from pipeline.lodgment.states import State


@dataclass(frozen=True, slots=True)
class Standing:
    """An open hold, and how many lodgments it keeps."""

    hold: Hold
    held: int


async def over(tx: Tx, rows: Collection[Lodgment]) -> dict[UUID, Hold]:
    """For each of these lodgments that may not be sent, the widest open hold over it.

    A hold that is found stays as it is until the transaction ends: none ends while somebody is being held by it.
    """
    by_row = {row.id: reaches(row) for row in rows}
    keys = {reach.key for found in by_row.values() for reach in found}
    if not keys:
        return {}
    found = [_hold(row) for row in await tx.connection.execute(_over(tx.dialect), {"keys": encode(keys)})]
    by_reach: dict[Reach, list[Hold]] = {}
    for one in found:
        by_reach.setdefault(one.reach, []).append(one)
    held: dict[UUID, Hold] = {}
    for row_id, its_reaches in by_row.items():
        over_it = [one for reach in its_reaches for one in by_reach.get(reach, ()) if one.canary_id != row_id]
        if over_it:
            held[row_id] = over_it[0]
    return held


async def establish(tx: Tx, wanted: Sequence[Hold]) -> tuple[dict[tuple[Reach, str], UUID], list[Hold]]:
    """Set these holds where they are not set already: the id of each by reach and code, and those that are new."""
    if not wanted:
        return {}, []
    chosen = {(one.reach, one.code): one for one in wanted}
    # Sorted, so that two batches wait for each other instead of deadlocking.
    ordered = sorted(chosen.values(), key=lambda one: (one.reach.key, one.reach.scope, one.reach.channel, one.code))
    added = await tx.connection.execute(_add(tx.dialect), {"batch": encode([_row(one) for one in ordered])})
    new = set(added.scalars())
    keys = {"keys": encode({one.reach.key for one in ordered})}
    found = [_hold(row) for row in await tx.connection.execute(_over(tx.dialect), keys)]
    return {(one.reach, one.code): one.id for one in found}, [one for one in ordered if one.id in new]


async def employers_since(tx: Tx, since: datetime) -> int:
    """How many employers a hold was set over since then, whatever became of it."""
    return int((await tx.connection.execute(_employers_since(), {"since": since})).scalar_one())


async def probing(tx: Tx, canaries: Collection[UUID]) -> dict[UUID, Hold]:
    """By lodgment, the hold that it goes first for; locked."""
    if not canaries:
        return {}
    rows = await tx.connection.execute(_probing(tx.dialect), {"keys": encode(canaries)})
    return {one.canary_id: one for one in map(_hold, rows) if one.canary_id is not None}


async def change(tx: Tx, changed: Sequence[Hold]) -> None:
    """Write state, canary and who released it."""
    if changed:
        batch = [_row(one) for one in sorted(changed, key=lambda one: one.id)]
        await tx.connection.execute(_change(tx.dialect), {"batch": encode(batch)})


async def find(tx: Tx, *, scope: Blast | None = None, key: str | None = None, code: str | None = None) -> list[Hold]:
    """Open holds by scope and key, or by code, the oldest first; locked."""
    values = {"scope": scope, "key": key, "code": code}
    return [_hold(row) for row in await tx.connection.execute(_find(), values)]


async def load(tx: Tx, hold_id: UUID) -> Hold | None:
    """One hold, whatever its state."""
    row = (await tx.connection.execute(_by_id(), {"id": hold_id})).one_or_none()
    return None if row is None else _hold(row)


async def ending(tx: Tx, limit: int) -> list[Hold]:
    """Holds whose lodgments are to be let go; those that another scheduler has are left out."""
    return [_hold(row) for row in await tx.connection.execute(_ending(), {"limit": limit})]


async def held_by(tx: Tx, hold_id: UUID, limit: int) -> list[Lodgment]:
    """Lodgments that this hold keeps, the oldest first."""
    rows = await tx.connection.execute(_held_by(), {"hold_id": hold_id, "limit": limit})
    return [lodgment_of(row) for row in rows]


async def standing(tx: Tx, limit: int) -> list[Standing]:
    """Open holds with how many each keeps; those that keep most first."""
    rows = await tx.connection.execute(_standing(), {"limit": limit})
    return [Standing(_hold(row), row.number) for row in rows]


async def by_scope(tx: Tx) -> dict[str, int]:
    """How many open holds there are of each scope."""
    return {row.scope: row.number for row in await tx.connection.execute(_by_scope())}


async def count(tx: Tx, hold_id: UUID) -> int:
    """How many lodgments this hold keeps."""
    return int((await tx.connection.execute(_count(), {"hold_id": hold_id})).scalar_one())


def _row(one: Hold) -> dict[str, object]:
    return {
        "id": one.id,
        "channel": one.reach.channel,
        "scope": one.reach.scope,
        "key": one.reach.key,
        "code": one.code,
        "reason_text": one.text,
        "reason_who": one.who,
        "purpose": one.purpose,
        "since": one.since,
        "state": one.state,
        "canary_id": one.canary_id,
        "released_at": one.released_at,
        "released_by": one.released_by,
    }


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        id=row.id,
        reach=Reach(row.channel, Blast(row.scope), row.key),
        code=row.code,
        text=row.reason_text,
        who=Party(row.reason_who),
        purpose=Purpose(row.purpose),
        since=row.since,
        state=HoldState(row.state),
        canary_id=row.canary_id,
        released_at=row.released_at,
        released_by=row.released_by,
    )


_CHANGING = ("state", "canary_id", "released_at", "released_by")


@cache
def _over(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(hold).where(among(dialect, hold.c.key), OPEN_HOLD).order_by(hold.c.id).with_for_update(read=True)


@cache
def _add(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, tuple(hold.c))
    source = sa.select(*rows.c).where(sa.true())
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    return insert(hold).from_select(hold.c.keys(), source).on_conflict_do_nothing().returning(hold.c.id)


@cache
def _employers_since() -> sa.Select[Any]:
    since = sa.bindparam("since", type_=hold.c.since.type)
    return sa.select(sa.func.count(hold.c.key.distinct())).where(hold.c.since >= since, hold.c.scope == Blast.EMPLOYER)


@cache
def _probing(dialect: Dialect) -> sa.Select[Any]:
    probing_ = sa.text("state = 'probing'")
    return sa.select(hold).where(among(dialect, hold.c.canary_id), probing_).order_by(hold.c.id).with_for_update()


@cache
def _change(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, (hold.c.id, *(hold.c[name] for name in _CHANGING)))
    return sa.update(hold).values({name: rows.c[name] for name in _CHANGING}).where(hold.c.id == rows.c.id)


@cache
def _find() -> sa.Select[Any]:
    def same(name: str) -> sa.ColumnElement[bool]:
        wanted = sa.bindparam(name, type_=sa.Text)
        return sa.or_(wanted.is_(None), hold.c[name] == wanted)

    return (
        sa.select(hold).where(OPEN_HOLD, same("scope"), same("key"), same("code")).order_by(hold.c.id).with_for_update()
    )


@cache
def _by_id() -> sa.Select[Any]:
    return sa.select(hold).where(hold.c.id == sa.bindparam("id", type_=hold.c.id.type))


@cache
def _ending() -> sa.Select[Any]:
    limit = sa.bindparam("limit", type_=sa.Integer)
    return sa.select(hold).where(sa.text("state = 'ending'")).limit(limit).with_for_update(skip_locked=True)


@cache
def _by_scope() -> sa.Select[Any]:
    return sa.select(hold.c.scope, sa.func.count().label("number")).where(OPEN_HOLD).group_by(hold.c.scope)


def _kept(hold_id: sa.ColumnElement[Any]) -> tuple[sa.ColumnElement[bool], ...]:
    return lodgment.c.hold_id == hold_id, lodgment.c.state == State.HELD


@cache
def _held_by() -> sa.Select[Any]:
    return (
        sa.select(*COLUMNS)
        .where(*_kept(sa.bindparam("hold_id", type_=hold.c.id.type)))
        .order_by(lodgment.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


@cache
def _count() -> sa.Select[Any]:
    return sa.select(sa.func.count()).where(*_kept(sa.bindparam("hold_id", type_=hold.c.id.type)))


@cache
def _standing() -> sa.Select[Any]:
    number = sa.select(sa.func.count()).where(*_kept(hold.c.id)).correlate(hold).scalar_subquery().label("number")
    return (
        sa.select(hold, number)
        .where(OPEN_HOLD)
        .order_by(sa.desc("number"), hold.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
