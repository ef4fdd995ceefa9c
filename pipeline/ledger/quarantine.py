"""What could not be taken: kept with its reason and its bytes until a person has looked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import quarantine


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


async def add(tx: Tx, items: Sequence[Quarantined]) -> None:
    """Keep messages; one whose id is there already stays as it is."""
    if items:
        await tx.connection.execute(_add(tx.dialect), [_row(tx, item) for item in items])


async def list_(tx: Tx, limit: int, *, released: bool = False) -> list[Quarantined]:
    """What is kept, newest first, without the bodies; with `released`, also what was put back."""
    rows = await tx.connection.execute(_list(released), {"limit": limit})
    return [_quarantined(row, b"") for row in rows]


async def read(tx: Tx, item_id: UUID) -> Quarantined | None:
    """One message with its body.

    Raises:
        RefusedError: `vault.damaged`.
    """
    row = (await tx.connection.execute(_read(), {"id": item_id})).one_or_none()
    return None if row is None else _quarantined(row, tx.vault.open(row.body, _context(row.id)))


async def release(tx: Tx, item_id: UUID, now: datetime) -> bool:
    """Mark a message as put back; False if it was before, or is unknown."""
    found = await tx.connection.execute(_release(), {"item": item_id, "now": now})
    return found.rowcount == 1


async def count(tx: Tx) -> int:
    """How many are kept and not put back."""
    return int((await tx.connection.execute(_count())).scalar_one())


@cache
def _add(dialect: Dialect) -> sa.Executable:
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    return insert(quarantine).on_conflict_do_nothing(index_elements=["id"])


@cache
def _list(released: bool) -> sa.Select[Any]:
    columns = [column for column in quarantine.c if column.name != "body"]
    chosen = sa.select(*columns).order_by(quarantine.c.id.desc()).limit(sa.bindparam("limit", type_=sa.Integer))
    return chosen if released else chosen.where(quarantine.c.released_at.is_(None))


@cache
def _read() -> sa.Select[Any]:
    return sa.select(quarantine).where(quarantine.c.id == sa.bindparam("id", type_=quarantine.c.id.type))


@cache
def _release() -> sa.Update:
    item = sa.bindparam("item", type_=quarantine.c.id.type)
    now = sa.bindparam("now", type_=quarantine.c.released_at.type)
    return (
        sa.update(quarantine).where(quarantine.c.id == item, quarantine.c.released_at.is_(None)).values(released_at=now)
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
    )


def _context(item_id: UUID) -> bytes:
    return b"quarantine " + item_id.bytes
