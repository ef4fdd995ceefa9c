"""The audit: who did what by hand, to which lodgment, and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode, insert_batch
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import operator_action

RELEASE = "release"


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """One thing that a person did. `lodgment_id` is None for what concerns no single lodgment."""

    id: UUID
    at: datetime
    who: str
    action: str
    lodgment_id: UUID | None
    reason: str


async def add(tx: Tx, actions: Sequence[OperatorAction]) -> None:
    """Write actions, in the transaction that carries them out."""
    if actions:
        rows = [
            {
                "id": item.id,
                "at": item.at,
                "who": item.who,
                "action": item.action,
                "lodgment_id": item.lodgment_id,
                "reason": item.reason,
            }
            for item in actions
        ]
        await tx.connection.execute(_add(tx.dialect), {"batch": encode(rows)})


async def of(tx: Tx, lodgment_id: UUID) -> list[OperatorAction]:
    """What was done to a lodgment by hand, in order."""
    rows = await tx.connection.execute(_of(), {"lodgment_id": lodgment_id})
    return [OperatorAction(row.id, row.at, row.who, row.action, row.lodgment_id, row.reason) for row in rows]


async def released_at(tx: Tx, ids: Collection[UUID]) -> dict[UUID, datetime]:
    """When these lodgments were last released, each by itself."""
    if not ids:
        return {}
    rows = await tx.connection.execute(_released_at(tx.dialect), {"keys": encode(ids)})
    return {row.lodgment_id: row.at for row in rows}


@cache
def _add(dialect: Dialect) -> sa.Executable:
    return insert_batch(dialect, operator_action, "id")


@cache
def _of() -> sa.Select[Any]:
    lodgment_id = sa.bindparam("lodgment_id", type_=operator_action.c.lodgment_id.type)
    return sa.select(operator_action).where(operator_action.c.lodgment_id == lodgment_id).order_by(operator_action.c.id)


@cache
def _released_at(dialect: Dialect) -> sa.Select[Any]:
    # The last one of each lodgment comes last and stays.
    return (
        sa.select(operator_action.c.lodgment_id, operator_action.c.at)
        .where(operator_action.c.action == RELEASE, among(dialect, operator_action.c.lodgment_id))
        .order_by(operator_action.c.id)
    )
