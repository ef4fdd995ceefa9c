"""New lodgments of documents that were lodged before: the document stays where it is stored, and is stored once."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger import lodgments, payees
from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import lodgment
from pipeline.lodgment.lodgment import Lodgment


async def add(tx: Tx, pairs: Sequence[tuple[Lodgment, Lodgment]]) -> set[UUID]:
    """Take in each new lodgment with its old one's job, labels and payees; the ids of those whose job id was free."""
    if not pairs:
        return set()
    keys = {"keys": encode([old.id for old, _ in pairs])}
    said = {row.id: row for row in await tx.connection.execute(_said(tx.dialect), keys)}
    new = [NewLodgment(after, _under(after.job_id, said[old.id].job), said[old.id].labels) for old, after in pairs]
    added = await lodgments.add(tx, new)
    whom = await payees.load(tx, {old.id for old, _ in pairs})
    await payees.add(tx, [(after.id, whom.get(old.id, {})) for old, after in pairs if after.id in added])
    return added


def _under(job_id: str, job: str) -> str:
    """The producer's job under another id."""
    return json.dumps({**json.loads(job), "job_id": job_id}, separators=(",", ":"))


@cache
def _said(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(lodgment.c.id, lodgment.c.job, lodgment.c.labels).where(among(dialect, lodgment.c.id))
