"""What could not be taken: kept with its reason and its bytes until a person has looked."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, among, encode, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import quarantine


class Fate(StrEnum):
    """How a message left quarantine."""

    RETURNED = "returned"
    """Put back on its queue."""
    DISCARDED = "discarded"
    """A person has looked, and nothing is to be done with it."""
    RELEASED = "released"
    """Its lodgment was released, and goes on with a message of its own."""


@dataclass(frozen=True, slots=True)
class Settling:
    """What becomes of a message, who says so and why."""

    fate: Fate
    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message that a step refused. `body` may hold a payload: it is sealed in the ledger and never in a repr."""

    id: UUID
    step: str
    code: str
    reason: str
    job_id: str | None
    lodgment_id: UUID | None
    message_id: str | None
    body: bytes = field(repr=False)
    received_at: datetime
    released_at: datetime | None = None
    fate: Fate | None = None
    fate_by: str | None = None
    fate_reason: str | None = None
    fixed_at: datetime | None = None
    fixed_by: str | None = None
    identity: str | None = None
    """What came with this is the same message; None is like no other."""


async def add(tx: Tx, items: Sequence[Quarantined]) -> None:
    """Keep messages; one that is kept already stays as it is: by its id, or until it leaves by its identity."""
    if items:
        await tx.connection.execute(_add(tx.dialect), [_row(tx, item) for item in items])


async def list_(tx: Tx, limit: int, *, released: bool = False, code: str | None = None) -> list[Quarantined]:
    """What is kept, newest first, without the bodies: of one code if it is given; with `released`, also what left."""
    rows = await tx.connection.execute(_list(released), {"limit": limit, "wanted": code})
    return [_quarantined(row, b"") for row in rows]


async def read(tx: Tx, item_id: UUID) -> Quarantined | None:
    """One message with its body.

    Raises:
        RefusedError: `vault.damaged`.
    """
    row = (await tx.connection.execute(_read(), {"id": item_id})).one_or_none()
    return None if row is None else _quarantined(row, tx.vault.open(row.body, _context(row.id)))


async def settle(tx: Tx, item_id: UUID, settling: Settling) -> bool:
    """Let a message leave; False if it has left before, or is unknown. Its row stays, for the audit."""
    found = await tx.connection.execute(_settle(), {"item": item_id, **_fate(settling)})
    return found.rowcount == 1


async def settle_of(tx: Tx, lodgment_ids: Collection[UUID], settling: Settling) -> None:
    """Let the messages of these lodgments leave."""
    if lodgment_ids:
        await tx.connection.execute(_settle_of(tx.dialect), {"keys": encode(lodgment_ids), **_fate(settling)})


async def rewrite(tx: Tx, item_id: UUID, body: bytes, job_id: str | None, who: str, now: datetime) -> bool:
    """Put another message in the place of one that is kept; False if that has left."""
    changes = {"item": item_id, "content": tx.vault.seal(body, _context(item_id)), "job": job_id, "by": who, "now": now}
    return (await tx.connection.execute(_rewrite(), changes)).rowcount == 1


async def count(tx: Tx) -> int:
    """How many are kept and not put back."""
    return int((await tx.connection.execute(_count())).scalar_one())


@cache
def _add(dialect: Dialect) -> sa.Executable:
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    return insert(quarantine).on_conflict_do_nothing()


@cache
def _list(released: bool) -> sa.Select[Any]:
    columns = [column for column in quarantine.c if column.name != "body"]
    wanted = sa.bindparam("wanted", type_=sa.Text)
    chosen = (
        sa.select(*columns)
        .where(sa.or_(wanted.is_(None), quarantine.c.code == wanted))
        .order_by(quarantine.c.id.desc())
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
    return chosen if released else chosen.where(quarantine.c.released_at.is_(None))


@cache
def _read() -> sa.Select[Any]:
    return sa.select(quarantine).where(quarantine.c.id == sa.bindparam("id", type_=quarantine.c.id.type))


def _fate(settling: Settling) -> dict[str, object]:
    why = storable(settling.why)
    return {"new_fate": settling.fate, "by": settling.who, "why": why, "now": settling.at}


def _leaving(chosen: sa.ColumnElement[bool]) -> sa.Update:
    new_fate, by, why = (sa.bindparam(name, type_=sa.Text) for name in ("new_fate", "by", "why"))
    now = sa.bindparam("now", type_=quarantine.c.released_at.type)
    values = {"released_at": now, "fate": new_fate, "fate_by": by, "fate_reason": why}
    return sa.update(quarantine).where(chosen, quarantine.c.released_at.is_(None)).values(values)


def _is_item() -> sa.ColumnElement[bool]:
    return quarantine.c.id == sa.bindparam("item", type_=quarantine.c.id.type)


@cache
def _settle() -> sa.Update:
    return _leaving(_is_item())


@cache
def _settle_of(dialect: Dialect) -> sa.Update:
    return _leaving(among(dialect, quarantine.c.lodgment_id))


@cache
def _rewrite() -> sa.Update:
    return (
        sa.update(quarantine)
        .where(_is_item(), quarantine.c.released_at.is_(None))
        .values(
            body=sa.bindparam("content", type_=sa.LargeBinary),
            job_id=sa.bindparam("job", type_=sa.Text),
            fixed_by=sa.bindparam("by", type_=sa.Text),
            fixed_at=sa.bindparam("now", type_=quarantine.c.fixed_at.type),
        )
    )


@cache
def _count() -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.released_at.is_(None))


def _row(tx: Tx, item: Quarantined) -> dict[str, object]:
    return {
        "id": item.id,
        "step": storable(item.step),
        "code": storable(item.code),
        "reason": storable(item.reason),
        "job_id": item.job_id and storable(item.job_id),
        "lodgment_id": item.lodgment_id,
        "message_id": item.message_id and storable(item.message_id),
        "body": tx.vault.seal(item.body, _context(item.id)),
        "received_at": item.received_at,
        "released_at": item.released_at,
        "fate": item.fate,
        "fate_by": item.fate_by,
        "fate_reason": item.fate_reason,
        "fixed_at": item.fixed_at,
        "fixed_by": item.fixed_by,
        "identity": item.identity,
    }


def _quarantined(row: Row[Any], body: bytes) -> Quarantined:
    return Quarantined(
        id=row.id,
        step=row.step,
        code=row.code,
        reason=row.reason,
        job_id=row.job_id,
        lodgment_id=row.lodgment_id,
        message_id=row.message_id,
        body=body,
        received_at=row.received_at,
        released_at=row.released_at,
        fate=Fate(row.fate) if row.fate else None,
        fate_by=row.fate_by,
        fate_reason=row.fate_reason,
        fixed_at=row.fixed_at,
        fixed_by=row.fixed_by,
        identity=row.identity,
    )


def _context(item_id: UUID) -> bytes:
    return b"quarantine " + item_id.bytes
