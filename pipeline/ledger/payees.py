"""Whom each record of a document is about, so that every message event names its payee. Sealed: it names people."""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import payee_map

_JSON = json.JSONEncoder(separators=(",", ":"), default=dict)
_AT_ONCE = 4096


async def add(tx: Tx, maps: Sequence[tuple[UUID, Mapping[str, str]]]) -> None:
    """Keep the maps of new lodgments; those without records take no row."""
    rows = [
        {"lodgment_id": lodgment_id, "content": tx.vault.seal(_packed(payees), _context(lodgment_id))}
        for lodgment_id, payees in maps
        if payees
    ]
    if rows:
        await tx.connection.execute(_insert(), rows)


async def load(tx: Tx, lodgment_ids: Collection[UUID]) -> dict[UUID, Mapping[str, str]]:
    """For each lodgment that has one, its map from record id to the producer's number for the payee.

    Raises:
        RefusedError: `vault.damaged`.
    """
    if not lodgment_ids:
        return {}
    rows = await tx.connection.execute(_select(tx.dialect), {"keys": encode(lodgment_ids)})
    return {
        row.lodgment_id: json.loads(zlib.decompress(tx.vault.open(row.content, _context(row.lodgment_id))))
        for row in rows
    }


def _packed(payees: Mapping[str, str]) -> bytes:
    # The map of twenty thousand payees is a megabyte, and json holds each of its strings once more to join them.
    deflate, strings = zlib.compressobj(), _JSON.iterencode(payees)
    pieces = [deflate.compress(part.encode()) for part in iter(lambda: "".join(islice(strings, _AT_ONCE)), "")]
    return b"".join((*pieces, deflate.flush()))


def _context(lodgment_id: UUID) -> bytes:
    return b"payees " + lodgment_id.bytes


@cache
def _insert() -> sa.Insert:
    return sa.insert(payee_map)


@cache
def _select(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(payee_map).where(among(dialect, payee_map.c.lodgment_id))
