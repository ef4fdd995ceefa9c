"""Software ids: one active id for each product and party, and no id twice, whatever the number of processes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, among, encode, recordset, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import software_id
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.software_id import Draw, SoftwareId
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId, Subscription

_DRAWS = 8
"""Rounds of drawing; with a million ids taken, one draw in a thousand meets one, and eight never do."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why an id cannot be registered: `taken`, the id itself is in the ledger; else `other` is the party's own."""

    wanted: RegisteredId
    taken: RegisteredId | None
    other: RegisteredId | None


async def registered(tx: Tx, whose: Collection[Subscription]) -> dict[Subscription, RegisteredId]:
    """The active id of each that has one: one statement, however many are asked for."""
    if not whose:
        return {}
    batch = [{"party": one.party, "product": one.product} for one in whose]
    rows = await tx.connection.execute(_registered(tx.dialect), {"batch": encode(batch)})
    return {found.whose: found for found in map(_registered_id, rows)}


async def by_id(tx: Tx, ids: Collection[SoftwareId]) -> dict[SoftwareId, RegisteredId]:
    """Ids as they stand in the ledger, retired ones too."""
    rows = await tx.connection.execute(_by_id(tx.dialect), {"keys": encode([one.digits for one in ids])})
    return {found.software_id: found for found in map(_registered_id, rows)}


async def list_(tx: Tx, text: str, limit: int, *, product: str | None, retired: bool) -> list[RegisteredId]:
    """Ids whose digits or party begin with `text`, in the order of parties; retired ones only with `retired`."""
    rows = await tx.connection.execute(_list(storable(text), limit, product, retired=retired))
    return [_registered_id(row) for row in rows]


async def generate(
    tx: Tx, whose: Mapping[Subscription, str | None], draw: Draw, who: str, now: datetime
) -> list[RegisteredId]:
    """New ids for those that have none; the values of `whose` are notes. Asking again makes nothing new.

    Raises:
        RefusedError: `software-id.exhausted`, the draws met only ids that are taken.
    """
    made: list[RegisteredId] = []
    # Sorted, so that two processes that register the same parties wait for each other instead of deadlocking.
    lacking = sorted(whose)
    for _ in range(_DRAWS):
        have = await registered(tx, lacking)
        drawn = [
            RegisteredId(draw(), one, Origin.GENERATED, Checked.CONTROL_DIGIT, now, who, whose[one])
            for one in lacking
            if one not in have
        ]
        added = await _insert(tx, drawn)
        made += [one for one in drawn if one.whose in added]
        # Of these either the id was taken, or another process gave the party one: the next look tells.
        lacking = [one.whose for one in drawn if one.whose not in added]
        if not lacking:
            return made
    text = f"no free id was found for {lacking[0]} in {_DRAWS} draws; nothing was changed: try again"
    raise RefusedError("software-id.exhausted", text)


async def conflicts(tx: Tx, wanted: Sequence[RegisteredId]) -> list[Conflict]:
    """What stands against registering these. One that is registered just so already is no conflict."""
    ids = await by_id(tx, [one.software_id for one in wanted])
    active = await registered(tx, _whose(wanted))
    found = []
    for one in wanted:
        taken, other = ids.get(one.software_id), active.get(one.whose)
        if taken is not None and taken.whose == one.whose and taken.retired_at is None:
            continue
        if taken is not None or other is not None:
            found.append(Conflict(one, taken, other))
    return found


async def add(tx: Tx, new: Sequence[RegisteredId]) -> list[RegisteredId]:
    """Register these ids, all or none; those that were not registered just so before.

    Raises:
        RefusedError: `software-id.taken`, another process registered one of them since `conflicts` looked.
    """
    known = {(one.software_id, one.whose) for one in (await registered(tx, _whose(new))).values()}
    fresh = sorted((one for one in new if (one.software_id, one.whose) not in known), key=lambda one: one.whose)
    added = await _insert(tx, fresh)
    lost = [one for one in fresh if one.whose not in added]
    if lost:
        text = f"{lost[0].software_id} or an id for {lost[0].whose} was registered in this instant"
        raise RefusedError("software-id.taken", f"{text}; nothing was changed: look again")
    return fresh


async def retire(tx: Tx, which: SoftwareId, who: str, why: str, now: datetime) -> bool:
    """Take an id out of use; False if it is unknown or was retired before."""
    values = {"which": which.digits, "now": now, "who": who, "why": storable(why)}
    return (await tx.connection.execute(_retire(), values)).rowcount == 1


async def restore(tx: Tx, which: SoftwareId) -> bool:
    """Put a retired id back in use; False if it is unknown or in use.

    Raises:
        RefusedError: `ledger.refused`, its party has another by now.
    """
    return (await tx.connection.execute(_restore(), {"which": which.digits})).rowcount == 1


def _whose(ids: Sequence[RegisteredId]) -> list[Subscription]:
    return [one.whose for one in ids]


async def _insert(tx: Tx, new: Sequence[RegisteredId]) -> set[Subscription]:
    """Insert what meets neither constraint; whose ids were inserted."""
    if not new:
        return set()
    rows = await tx.connection.execute(_insert_batch(tx.dialect), {"batch": encode([_row(one) for one in new])})
    return {Subscription(row.product, row.party) for row in rows}


@cache
def _registered(dialect: Dialect) -> sa.Select[Any]:
    asked = recordset(dialect, (software_id.c.party, software_id.c.product), "asked")
    return sa.select(software_id).join_from(
        asked,
        software_id,
        sa.and_(
            software_id.c.party == asked.c.party,
            software_id.c.product == asked.c.product,
            software_id.c.retired_at.is_(None),
        ),
    )


@cache
def _by_id(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(software_id).where(among(dialect, software_id.c.id))


def _list(text: str, limit: int, product: str | None, *, retired: bool) -> sa.Select[Any]:
    begins = (column.startswith(text, autoescape=True) for column in (software_id.c.id, software_id.c.party))
    chosen = sa.select(software_id).where(sa.or_(*begins)).limit(limit)
    if product is not None:
        chosen = chosen.where(software_id.c.product == storable(product))
    if not retired:
        chosen = chosen.where(software_id.c.retired_at.is_(None))
    return chosen.order_by(software_id.c.party, software_id.c.product, software_id.c.created_at)


@cache
def _insert_batch(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, tuple(software_id.c))
    # Without a WHERE, SQLite reads ON CONFLICT as a join condition (its documentation, "Parsing ambiguity").
    source = sa.select(*rows.c).where(sa.true())
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    # Without a target: the id may be taken, or the party have one by now.
    inserted = insert(software_id).from_select(software_id.c.keys(), source).on_conflict_do_nothing()
    return inserted.returning(software_id.c.product, software_id.c.party)


@cache
def _retire() -> sa.Update:
    return (
        sa.update(software_id)
        .where(software_id.c.id == sa.bindparam("which", type_=sa.Text), software_id.c.retired_at.is_(None))
        .values(
            retired_at=sa.bindparam("now", type_=software_id.c.retired_at.type),
            retired_by=sa.bindparam("who", type_=sa.Text),
            retired_reason=sa.bindparam("why", type_=sa.Text),
        )
    )


@cache
def _restore() -> sa.Update:
    return (
        sa.update(software_id)
        .where(software_id.c.id == sa.bindparam("which", type_=sa.Text), software_id.c.retired_at.is_not(None))
        .values(retired_at=None, retired_by=None, retired_reason=None)
    )


def _row(one: RegisteredId) -> dict[str, object]:
    return {
        "id": one.software_id.digits,
        "product": one.whose.product,
        "party": one.whose.party,
        "origin": one.origin,
        "checked": one.checked,
        "created_at": one.created_at,
        "created_by": one.created_by,
        "note": one.note,
        "retired_at": one.retired_at,
        "retired_by": one.retired_by,
        "retired_reason": one.retired_reason,
    }


def _registered_id(row: Row[Any]) -> RegisteredId:
    return RegisteredId(
        software_id=SoftwareId(row.id),
        whose=Subscription(row.product, row.party),
        origin=Origin(row.origin),
        checked=Checked(row.checked),
        created_at=row.created_at,
        created_by=row.created_by,
        note=row.note,
        retired_at=row.retired_at,
        retired_by=row.retired_by,
        retired_reason=row.retired_reason,
    )
