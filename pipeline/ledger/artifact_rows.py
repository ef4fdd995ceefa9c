"""Documents as rows of the ledger, and back: packed, hashed, and checked when they are opened."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Row

from pipeline.ledger.document_form import CODEC, damaged, packed, unpacked
from pipeline.ledger.large_documents import LargeDocument
from pipeline.ledger.tables import ArtifactKind
from pipeline.ledger.vault import Vault

_LENGTH_BYTES = 4


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


@dataclass(frozen=True, slots=True)
class FoundEnvelope:
    """As `StoredEnvelope`, with a payload that is still in the ledger where it is large; it was read and checked."""

    head: bytes
    payload: bytes | LargeDocument
    tail: bytes
    sha256: str


def pack_artifacts(vault: Vault, artifacts: Sequence[NewArtifact]) -> list[dict[str, object]]:
    """Rows of documents, each with what is stored of it."""
    return [row_of(item) | {"content": packed(vault, item.id, item.content)} for item in artifacts]


def row_of(item: NewArtifact) -> dict[str, object]:
    """All columns but the content."""
    return {
        "id": item.id,
        "lodgment_id": item.lodgment_id,
        "kind": item.kind,
        "sha256": hashlib.sha256(item.content).hexdigest(),
        "size": len(item.content),
        "codec": CODEC,
        "payload_id": None,
        "created_at": item.created_at,
    }


def pack_envelopes(vault: Vault, envelopes: Sequence[NewEnvelope]) -> list[dict[str, object]]:
    """Rows of envelopes, each with what stands around its payload."""
    return [
        {
            "id": item.id,
            "lodgment_id": item.lodgment_id,
            "kind": ArtifactKind.ENVELOPE,
            "sha256": item.sha256,
            "size": item.size,
            "codec": CODEC,
            "payload_id": item.payload_id,
            "content": packed(vault, item.id, len(item.head).to_bytes(_LENGTH_BYTES) + item.head + item.tail),
            "created_at": item.created_at,
        }
        for item in envelopes
    ]


def open_artifacts(vault: Vault, rows: Sequence[Row[Any]]) -> dict[UUID, bytes | LargeDocument]:
    """Documents by id; those whose rows came without content are large.

    Raises:
        RefusedError: `vault.damaged`, `artifact.damaged`.
    """
    found: dict[UUID, bytes | LargeDocument] = {}
    for row in rows:
        if row.content is None:
            found[row.id] = LargeDocument(row.id, row.sha256, row.size, row.stored_size)
            continue
        found[row.id] = content = unpacked(vault, row.id, row.content)
        _check(row.id, row.sha256, (content,))
    return found


def open_envelopes(vault: Vault, rows: Sequence[Row[Any]]) -> dict[UUID, FoundEnvelope]:
    """Envelopes by id; around large payloads they are not checked yet.

    Raises:
        RefusedError: `vault.damaged`, `artifact.damaged`.
    """
    found = {}
    for row in rows:
        head, tail = around(vault, row)
        payload: bytes | LargeDocument = b""
        if row.content is not None:
            payload = unpacked(vault, row.payload_id, row.content)
        elif row.stored_size is not None:
            payload = LargeDocument(row.payload_id, row.payload_sha256, row.size, row.stored_size)
        if isinstance(payload, bytes):
            _check(row.id, row.sha256, (head, payload, tail))
        found[row.id] = FoundEnvelope(head, payload, tail, row.sha256)
    return found


def around(vault: Vault, row: Row[Any]) -> tuple[bytes, bytes]:
    """An envelope's head and tail."""
    return split_around(unpacked(vault, row.id, row.around))


def split_around(around: bytes) -> tuple[bytes, bytes]:
    """Head and tail from an envelope's stored form, opened and inflated."""
    split = _LENGTH_BYTES + int.from_bytes(around[:_LENGTH_BYTES])
    return around[_LENGTH_BYTES:split], around[split:]


def _check(artifact_id: UUID, sha256: str, parts: Iterable[bytes]) -> None:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    if digest.hexdigest() != sha256:
        raise damaged(artifact_id)
