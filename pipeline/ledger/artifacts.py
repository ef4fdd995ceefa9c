"""Documents, to the byte: payloads, envelopes and replies, compressed and sealed. A document is stored once."""

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from io import BytesIO
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, among, as_arrays, encode, insert_arrays
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import ArtifactKind, artifact
from pipeline.ledger.vault import HEADER_BYTES, Vault
from pipeline.lodgment.errors import RefusedError

_CODEC = "zlib+vault"
_LEVEL = 1  # XML shrinks to a quarter; higher levels cost three times the CPU for a few percent
_LENGTH_BYTES = 4
AT_ONCE = 64 * 1024 * 1024
"""Bytes of documents that a batch may hold in memory, and one document beyond."""
_LARGE = 256 * 1024
"""Bytes from which on a document is compressed and sealed in pieces, and its sealed form alone stands beside it."""


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A document to store."""

    id: UUID
    lodgment_id: UUID
    kind: ArtifactKind
    content: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewEnvelope:
    """An envelope to store: what stands before and after its payload, which is stored already; a question has none.

    `sha256` and `size` are of all the bytes on the wire.
    """

    id: UUID
    lodgment_id: UUID
    payload_id: UUID | None
    head: bytes
    tail: bytes
    sha256: str
    size: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredEnvelope:
    """An envelope as it goes on the wire: `head + payload + tail`, whose hash was checked."""

    head: bytes
    payload: bytes
    tail: bytes
    sha256: str


async def add(tx: Tx, artifacts: Sequence[NewArtifact]) -> None:
    """Store documents."""
    if artifacts:
        await _store(tx, await asyncio.to_thread(_pack_artifacts, tx.vault, artifacts))


async def add_envelopes(tx: Tx, envelopes: Sequence[NewEnvelope]) -> None:
    """Store envelopes around payloads that are stored already, or in this transaction."""
    if envelopes:
        await _store(tx, await asyncio.to_thread(_pack_envelopes, tx.vault, envelopes))


async def read(tx: Tx, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Payloads and replies by id; unknown ids are left out.

    Raises:
        RefusedError: `vault.damaged` or `artifact.damaged`, what is stored is not what was written.
    """
    if not ids:
        return {}
    rows = (await tx.connection.execute(_select(tx.dialect), _keys(ids))).all()
    return await asyncio.to_thread(_open_artifacts, tx.vault, rows)


async def read_portion(tx: Tx, ids: Collection[UUID], at_once: int = AT_ONCE) -> dict[UUID, bytes]:
    """As `read`, but of these the lowest ids only, up to `at_once` bytes of documents and one document beyond."""
    if not ids:
        return {}
    rows = (await tx.connection.execute(_select_portion(tx.dialect), _keys(ids) | {"at_once": at_once})).all()
    return await asyncio.to_thread(_open_artifacts, tx.vault, rows)


async def read_envelopes(tx: Tx, ids: Collection[UUID]) -> dict[UUID, StoredEnvelope]:
    """Envelopes by id, put together again; unknown ids are left out.

    Raises:
        RefusedError: as for `read`.
    """
    if not ids:
        return {}
    rows = (await tx.connection.execute(_select_envelopes(tx.dialect), _keys(ids))).all()
    return await asyncio.to_thread(_open_envelopes, tx.vault, rows)


async def read_heads(tx: Tx, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """What stands before the payload in these envelopes; unknown ids are left out. No payload is read for it.

    Raises:
        RefusedError: `vault.damaged`.
    """
    if not ids:
        return {}
    rows = (await tx.connection.execute(_select_around(tx.dialect), _keys(ids))).all()
    return {row.id: _around(tx.vault, row)[0] for row in rows}


async def check_key(tx: Tx) -> None:
    """See that the newest document was sealed under a key that is at hand.

    Raises:
        ConfigurationError: `vault.key_unknown`.
    """
    header = (await tx.connection.execute(_newest_header())).scalar_one_or_none()
    if header is not None:
        with contextlib.suppress(RefusedError):  # damaged: that concerns one lodgment, and is said when it is read
            tx.vault.check(bytes(header))


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
    wanted = (artifact.c.id, artifact.c.sha256, artifact.c.content)
    return sa.select(*wanted).where(_chosen(dialect), artifact.c.kind != ArtifactKind.ENVELOPE)


@cache
def _select_portion(dialect: Dialect) -> sa.Select[Any]:
    before = sa.func.sum(artifact.c.size).over(order_by=artifact.c.id) - artifact.c.size
    weighed = _select(dialect).add_columns(before.label("before")).subquery("weighed")
    wanted = (weighed.c.id, weighed.c.sha256, weighed.c.content)
    return sa.select(*wanted).where(weighed.c.before < sa.bindparam("at_once", type_=sa.BigInteger))


@cache
def _select_envelopes(dialect: Dialect) -> sa.Select[Any]:
    payload = artifact.alias("payload")
    wanted = (artifact.c.id, artifact.c.sha256, artifact.c.content, artifact.c.payload_id)
    return (
        sa.select(*wanted, payload.c.content.label("payload"))
        .join_from(artifact, payload, payload.c.id == artifact.c.payload_id, isouter=True)
        .where(_chosen(dialect))
    )


@cache
def _select_around(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(artifact.c.id, artifact.c.content).where(
        _chosen(dialect), artifact.c.kind == ArtifactKind.ENVELOPE
    )


def _chosen(dialect: Dialect) -> sa.ColumnElement[bool]:
    # The bounds add nothing to the keys but let PostgreSQL leave out all other months.
    low, high = sa.bindparam("low", type_=artifact.c.id.type), sa.bindparam("high", type_=artifact.c.id.type)
    return sa.and_(among(dialect, artifact.c.id), artifact.c.id.between(low, high))


def _keys(ids: Collection[UUID]) -> dict[str, object]:
    return {"keys": encode(ids), "low": min(ids), "high": max(ids)}


def _pack_artifacts(vault: Vault, artifacts: Sequence[NewArtifact]) -> list[dict[str, object]]:
    return [
        {
            "id": item.id,
            "lodgment_id": item.lodgment_id,
            "kind": item.kind,
            "sha256": hashlib.sha256(item.content).hexdigest(),
            "size": len(item.content),
            "codec": _CODEC,
            "payload_id": None,
            "content": _seal(vault, item.id, item.content),
            "created_at": item.created_at,
        }
        for item in artifacts
    ]


def _pack_envelopes(vault: Vault, envelopes: Sequence[NewEnvelope]) -> list[dict[str, object]]:
    return [
        {
            "id": item.id,
            "lodgment_id": item.lodgment_id,
            "kind": ArtifactKind.ENVELOPE,
            "sha256": item.sha256,
            "size": item.size,
            "codec": _CODEC,
            "payload_id": item.payload_id,
            "content": _seal(vault, item.id, len(item.head).to_bytes(_LENGTH_BYTES) + item.head + item.tail),
            "created_at": item.created_at,
        }
        for item in envelopes
    ]


def _open_artifacts(vault: Vault, rows: Sequence[Row[Any]]) -> dict[UUID, bytes]:
    found = {}
    for row in rows:
        content = _open(vault, row.id, row.content)
        _check(row.id, row.sha256, content)
        found[row.id] = content
    return found


def _open_envelopes(vault: Vault, rows: Sequence[Row[Any]]) -> dict[UUID, StoredEnvelope]:
    found = {}
    for row in rows:
        head, tail = _around(vault, row)
        payload = b"" if row.payload_id is None else _open(vault, row.payload_id, row.payload)
        _check(row.id, row.sha256, head, payload, tail)
        found[row.id] = StoredEnvelope(head, payload, tail, row.sha256)
    return found


def _around(vault: Vault, row: Row[Any]) -> tuple[bytes, bytes]:
    """An envelope's head and tail."""
    return split_around(_open(vault, row.id, row.content))


def split_around(around: bytes) -> tuple[bytes, bytes]:
    """Head and tail from an envelope's stored form, opened and inflated."""
    split = _LENGTH_BYTES + int.from_bytes(around[:_LENGTH_BYTES])
    return around[_LENGTH_BYTES:split], around[split:]


def _seal(vault: Vault, artifact_id: UUID, content: bytes) -> bytes:
    if len(content) <= _LARGE:
        return vault.seal(zlib.compress(content, _LEVEL), context(artifact_id))
    return vault.seal_pieces(_deflated(content), context(artifact_id))


def _open(vault: Vault, artifact_id: UUID, sealed: bytes) -> bytes:
    if len(sealed) <= _LARGE:
        return zlib.decompress(vault.open(sealed, context(artifact_id)))
    content, inflate = BytesIO(), zlib.decompressobj()
    for piece in vault.open_pieces(sealed, context(artifact_id)):
        content.write(inflate.decompress(piece))
    content.write(inflate.flush())
    return content.getvalue()


def _deflated(content: bytes) -> Iterator[bytes]:
    deflate, view = zlib.compressobj(_LEVEL), memoryview(content)
    for start in range(0, len(content), _LARGE):
        yield deflate.compress(view[start : start + _LARGE])
    yield deflate.flush()


def context(artifact_id: UUID) -> bytes:
    """What a document is sealed with besides the key, so that it opens in its own row alone."""
    return b"artifact " + artifact_id.bytes


def _check(artifact_id: UUID, sha256: str, *parts: bytes) -> None:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    if digest.hexdigest() != sha256:
        raise damaged(artifact_id)


def damaged(artifact_id: UUID) -> RefusedError:
    """What is said of a document that is not what was stored."""
    return RefusedError("artifact.damaged", f"artifact {artifact_id} does not have the hash it was stored with")
