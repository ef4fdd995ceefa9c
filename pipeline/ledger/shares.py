"""Each sender's virtual time."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.batch import Dialect, among, encode, recordset
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import sender_share


async def lock(tx: Tx, senders: Mapping[str, datetime]) -> dict[str, datetime]:
    """The virtual time of each sender, which is as given where it was never heard of; nobody else changes it before
    this transaction ends.
    """
    # Always all of them, and sorted, so that two batches wait for each other instead of deadlocking.
    keys = {"keys": encode(sorted(senders))}
    found = (await tx.connection.execute(_lock(tx.dialect), keys)).all()
    if len(found) < len(senders):
        rows = [{"sender_id": sender, "virtual_at": senders[sender]} for sender in sorted(senders)]
        await tx.connection.execute(_add(tx.dialect), {"batch": encode(rows)})
        found = (await tx.connection.execute(_lock(tx.dialect), keys)).all()
    return {row.sender_id: row.virtual_at for row in found}


async def write(tx: Tx, senders: Mapping[str, datetime]) -> None:
    """Move the virtual times of locked senders on."""
    rows = [{"sender_id": sender, "virtual_at": senders[sender]} for sender in sorted(senders)]
    await tx.connection.execute(_write(tx.dialect), {"batch": encode(rows)})


@cache
def _add(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, tuple(sender_share.c))
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    source = sa.select(*rows.c).where(sa.true())
    return insert(sender_share).from_select(sender_share.c.keys(), source).on_conflict_do_nothing()


@cache
def _lock(dialect: Dialect) -> sa.Select[Any]:
    mine = among(dialect, sender_share.c.sender_id)
    return sa.select(sender_share).where(mine).order_by(sender_share.c.sender_id).with_for_update()


@cache
def _write(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, tuple(sender_share.c))
    changed = {"virtual_at": rows.c.virtual_at}
    return sa.update(sender_share).values(changed).where(sender_share.c.sender_id == rows.c.sender_id)
