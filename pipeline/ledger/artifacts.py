"""Documents, to the byte: payloads, envelopes and replies, compressed and sealed. A document is stored once."""

import asyncio
import contextlib
import hashlib
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger import large_documents
from pipeline.ledger.artifact_rows import (
    FoundEnvelope,
    NewArtifact,
    NewEnvelope,
    StoredEnvelope,
    around,
    open_artifacts,
    open_envelopes,
    pack_artifacts,
    pack_envelopes,
    row_of,
)
from pipeline.ledger.batch import Dialect, among, as_arrays, encode, insert_arrays
from pipeline.ledger.document_form import LARGE, damaged, packed_pieces
from pipeline.ledger.large_documents import LargeDocument
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import ArtifactKind, artifact
from pipeline.ledger.vault import HEADER_BYTES
from pipeline.lodgment.errors import RefusedError

AT_ONCE = 64 * 1024 * 1024
"""Bytes of documents that a batch may hold in memory, and one document beyond."""


async def add(tx: Tx, artifacts: Sequence[NewArtifact]) -> None:
    """Store documents: large ones each by itself and in pieces, all others in one statement."""
    if small := [item for item in artifacts if len(item.content) <= LARGE]:
        await _store(tx, await asyncio.to_thread(pack_artifacts, tx.vault, small))
    for item in artifacts:
        if len(item.content) > LARGE:
            row = await asyncio.to_thread(row_of, item)
            await large_documents.insert(tx, row, packed_pieces(tx.vault, item.id, item.content))


async def add_envelopes(tx: Tx, envelopes: Sequence[NewEnvelope]) -> None:
    """Store envelopes around payloads that are stored already, or in this transaction."""
    if envelopes:
        await _store(tx, await asyncio.to_thread(pack_envelopes, tx.vault, envelopes))


async def read(tx: Tx, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Payloads and replies by id; unknown ids are left out.

    Raises:
        RefusedError: `vault.damaged` or `artifact.damaged`, what is stored is not what was written.
    """
    if not ids:
        return {}
    return await _whole(tx, await _found(tx, _select(tx.dialect), _keys(ids)))


async def read_portion(tx: Tx, ids: Collection[UUID], at_once: int = AT_ONCE) -> dict[UUID, bytes]:
    """As `read`, but of these the lowest ids only, up to `at_once` bytes of documents and one document beyond."""
    return await _whole(tx, await look_portion(tx, ids, at_once))


async def look_portion(tx: Tx, ids: Collection[UUID], at_once: int = AT_ONCE) -> dict[UUID, bytes | LargeDocument]:
    """As `read_portion`, with large documents left where they are."""
    if not ids:
        return {}
    return await _found(tx, _select_portion(tx.dialect), _keys(ids) | {"at_once": at_once})


async def read_envelopes(tx: Tx, ids: Collection[UUID]) -> dict[UUID, StoredEnvelope]:
    """Envelopes by id, put together again; unknown ids are left out.

    Raises:
        RefusedError: as for `read`.
    """
    found = await look_envelopes(tx, ids)
    payloads = await _whole(tx, {key: one.payload for key, one in found.items()})
    return {key: StoredEnvelope(one.head, payloads[key], one.tail, one.sha256) for key, one in found.items()}


async def look_envelopes(tx: Tx, ids: Collection[UUID]) -> dict[UUID, FoundEnvelope]:
    """As `read_envelopes`, with large payloads left in the ledger once they were read and checked.

    Raises:
        RefusedError: as for `read`.
    """
    if not ids:
        return {}
    rows = (await tx.connection.execute(_select_envelopes(tx.dialect), _keys(ids))).all()
    found = await asyncio.to_thread(open_envelopes, tx.vault, rows)
    for artifact_id, one in found.items():
        if isinstance(one.payload, LargeDocument):
            await _check_large(tx, artifact_id, one, one.payload)
    return found


async def read_heads(tx: Tx, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """What stands before the payload in these envelopes; unknown ids are left out. No payload is read for it.

    Raises:
        RefusedError: `vault.damaged`.
    """
    if not ids:
        return {}
    rows = (await tx.connection.execute(_select_around(tx.dialect), _keys(ids))).all()
    return {row.id: around(tx.vault, row)[0] for row in rows}


async def check_key(tx: Tx) -> None:
    """See that the newest document was sealed under a key that is at hand.

    Raises:
        ConfigurationError: `vault.key_unknown`.
    """
    header = (await tx.connection.execute(_newest_header())).scalar_one_or_none()
    if header is not None:
        with contextlib.suppress(RefusedError):  # damaged: that concerns one lodgment, and is said when it is read
            tx.vault.check(bytes(header))


async def _found(tx: Tx, query: sa.Select[Any], values: dict[str, object]) -> dict[UUID, bytes | LargeDocument]:
    rows = (await tx.connection.execute(query, values)).all()
    return await asyncio.to_thread(open_artifacts, tx.vault, rows)


async def _whole(tx: Tx, found: dict[UUID, bytes | LargeDocument]) -> dict[UUID, bytes]:
    return {key: one if isinstance(one, bytes) else await one.read(tx) for key, one in found.items()}


async def _check_large(tx: Tx, artifact_id: UUID, envelope: FoundEnvelope, payload: LargeDocument) -> None:
    digest = hashlib.sha256(envelope.head)
    async for piece in payload.pieces(lambda: nullcontext(tx)):
        digest.update(piece)
    digest.update(envelope.tail)
    if digest.hexdigest() != envelope.sha256:
        raise damaged(artifact_id)


async def _store(tx: Tx, rows: list[dict[str, object]]) -> None:
    if tx.dialect is Dialect.SQLITE:
        await tx.connection.execute(_insert(), rows)
    else:
        await tx.connection.execute(_insert_arrays(), as_arrays(rows))


@cache
def _newest_header() -> sa.Select[Any]:
    header = sa.func.substr(artifact.c.content, 1, HEADER_BYTES, type_=sa.LargeBinary)
    return sa.select(header).order_by(artifact.c.id.desc()).limit(1)


@cache
def _insert() -> sa.Insert:
    return sa.insert(artifact)


@cache
def _insert_arrays() -> sa.Insert:
    return insert_arrays(artifact)


@cache
def _select(dialect: Dialect) -> sa.Select[Any]:
    wanted = (artifact.c.id, artifact.c.sha256, artifact.c.size, *_unless_large(artifact))
    return sa.select(*wanted).where(_chosen(dialect), artifact.c.kind != ArtifactKind.ENVELOPE)


@cache
def _select_portion(dialect: Dialect) -> sa.Select[Any]:
    before = sa.func.sum(artifact.c.size).over(order_by=artifact.c.id) - artifact.c.size
    weighed = _select(dialect).add_columns(before.label("before")).subquery("weighed")
    wanted = [column for column in weighed.c if column.name != "before"]
    return sa.select(*wanted).where(weighed.c.before < sa.bindparam("at_once", type_=sa.BigInteger))


@cache
def _select_envelopes(dialect: Dialect) -> sa.Select[Any]:
    payload = artifact.alias("payload")
    of_payload = (payload.c.sha256.label("payload_sha256"), payload.c.size, *_unless_large(payload))
    return (
        sa.select(artifact.c.id, artifact.c.sha256, artifact.c.content.label("around"), artifact.c.payload_id)
        .add_columns(*of_payload)
        .join_from(artifact, payload, payload.c.id == artifact.c.payload_id, isouter=True)
        .where(_chosen(dialect))
    )


def _unless_large(table: sa.FromClause) -> tuple[sa.ColumnElement[Any], ...]:
    """What is stored of a document, where that is not large, and its length, for which none of it is read."""
    content = sa.case((table.c.size <= LARGE, table.c.content)).label("content")
    return content, sa.func.length(table.c.content, type_=sa.BigInteger).label("stored_size")


@cache
def _select_around(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(artifact.c.id, artifact.c.content.label("around")).where(
        _chosen(dialect), artifact.c.kind == ArtifactKind.ENVELOPE
    )


def _chosen(dialect: Dialect) -> sa.ColumnElement[bool]:
    # The bounds add nothing to the keys but let PostgreSQL leave out all other months.
    low, high = sa.bindparam("low", type_=artifact.c.id.type), sa.bindparam("high", type_=artifact.c.id.type)
    return sa.and_(among(dialect, artifact.c.id), artifact.c.id.between(low, high))


def _keys(ids: Collection[UUID]) -> dict[str, object]:
    return {"keys": encode(ids), "low": min(ids), "high": max(ids)}
