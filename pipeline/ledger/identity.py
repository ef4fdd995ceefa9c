"""Who this ledger is: one id, made with its tables, that its copies and restored backups share."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.session import Tx
from pipeline.ledger.tables import ledger_identity
from pipeline.lodgment.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Identity:
    """`restored_at` is when `lodge recover --after-restore` last told that this ledger was restored from a copy."""

    id: UUID
    made_at: datetime
    restored_at: datetime | None


async def read(tx: Tx) -> Identity:
    """The ledger's identity.

    Raises:
        ConfigurationError: `ledger.identity`, the row is gone.
    """
    row = (await tx.connection.execute(_read())).one_or_none()
    if row is None:
        text = "the table ledger_identity must hold one row, made by `lodge db upgrade`: restore it from a backup"
        raise ConfigurationError("ledger.identity", text)
    return Identity(row.id, row.made_at, row.restored_at)


async def restored(tx: Tx, now: datetime) -> None:
    """Note that the ledger was restored from an earlier copy."""
    await tx.connection.execute(sa.update(ledger_identity).values(restored_at=now))


@cache
def _read() -> sa.Select[Any]:
    return sa.select(ledger_identity)
