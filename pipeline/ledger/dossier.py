"""All that is kept of one lodgment, for evidence: its rows, and its documents as streams whose hashes are checked."""

import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger import attempts, lodgments, operators, outcomes, reports
from pipeline.ledger.artifact_rows import split_around
from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.document_form import context, damaged
from pipeline.ledger.lodgments import JobDocument
from pipeline.ledger.operators import OperatorAction
from pipeline.ledger.outcomes import RecordedEvent
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import artifact, security_token
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import Attempt, Lodgment
from pipeline.lodgment.outcome import Attachment
from pipeline.lodgment.references import TokenKeyHash
from pipeline.lodgment.subscription import RegisteredId

PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document's row without its content; `sha256` and `size` are of the bytes as they were sent or came."""

    id: UUID
    kind: str
    sha256: str
    size: int
    payload_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    """Which token key a lodgment goes under, and the token that the key has now; nothing secret of either."""

    environment: str
    sts: str
    applies_to: str
    credential: str
    second_party: str | None
    software_id: str | None
    claims: tuple[str, ...]
    key_size: int
    assertion_id: str | None
    created_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Dossier:
    """What the ledger has. `documents`: the payload, what attempts sent and what they got back, as far as kept."""

    lodgment: Lodgment
    job: JobDocument
    attempts: Sequence[Attempt]
    events: Sequence[RecordedEvent]
    attachments: Sequence[Attachment]
    actions: Sequence[OperatorAction]
    software_id: RegisteredId | None
    token: TokenIdentity | None
    documents: Mapping[UUID, StoredDocument]


@dataclass(frozen=True, slots=True)
class OpenedEnvelope:
    """An envelope, to be read once and in order; the document is inflated while it is read."""

    head: bytes = field(repr=False)
    payload: Iterator[bytes] = field(repr=False)
    tail: bytes = field(repr=False)

    def pieces(self) -> Iterator[bytes]:
        """The bytes on the wire."""
        yield self.head
        yield from self.payload
        yield self.tail


async def dossier(tx: Tx, lodgment_id: UUID) -> Dossier | None:
    """All of one lodgment, or None.

    Raises:
        RefusedError: `evidence.moving`: a worker moved it while it was read.
    """
    row = (await lodgments.load(tx, [lodgment_id])).get(lodgment_id)
    job = await lodgments.document(tx, lodgment_id)
    if row is None or job is None:
        return None
    tries = await attempts.of(tx, lodgment_id)
    ids = {row.payload_id, *(one.envelope_id for one in tries)}
    ids |= {one.reply_id for one in tries if one.reply_id is not None}
    found = Dossier(
        lodgment=row,
        job=job,
        attempts=tries,
        events=await outcomes.recorded(tx, lodgment_id),
        attachments=await outcomes.attachments_of(tx, lodgment_id),
        actions=await operators.of(tx, lodgment_id),
        software_id=await reports.registered_id(tx, row),
        token=None if row.token_key is None else await _token(tx, row.token_key),
        documents=await _documents(tx, ids),
    )
    if (await lodgments.load(tx, [lodgment_id]))[lodgment_id].version != row.version:
        raise RefusedError("evidence.moving", f"{lodgment_id} moved while it was read: give the command again")
    return found


async def open_document(tx: Tx, document: StoredDocument) -> Iterator[bytes]:
    """A payload or a reply in pieces. A piece is good only when all have come: the hash is checked last.

    Raises:
        RefusedError: `vault.damaged`, or, while it is read, `artifact.damaged`.
    """
    return _checked(document, _inflated(document.id, await _opened(tx, document.id)))


async def open_envelope(tx: Tx, document: StoredDocument) -> OpenedEnvelope:
    """An envelope and the document in it. Only what the ledger holds compressed is in memory as a whole.

    Raises:
        RefusedError: as `open_document`; the hash is checked when `tail` would follow.
    """
    head, tail = split_around(zlib.decompress(await _opened(tx, document.id)))
    payload: Iterator[bytes] = iter(())
    if document.payload_id is not None:
        payload = _inflated(document.payload_id, await _opened(tx, document.payload_id))
    return OpenedEnvelope(head, _checked(document, payload, before=head, after=tail), tail)


def _checked(
    document: StoredDocument, pieces: Iterator[bytes], before: bytes = b"", after: bytes = b""
) -> Iterator[bytes]:
    digest = hashlib.sha256(before)
    for piece in pieces:
        digest.update(piece)
        yield piece
    digest.update(after)
    if digest.hexdigest() != document.sha256:
        raise damaged(document.id)


def _inflated(artifact_id: UUID, content: bytes) -> Iterator[bytes]:
    inflating, waiting = zlib.decompressobj(), content
    while not inflating.eof:
        piece = inflating.decompress(waiting, PIECE)
        waiting = inflating.unconsumed_tail
        if not piece and not waiting and not inflating.eof:
            raise damaged(artifact_id)
        if piece:
            yield piece


async def _opened(tx: Tx, artifact_id: UUID) -> bytes:
    """A document as it is stored, without its seal: compressed."""
    content = (await tx.connection.execute(_content(), {"id": artifact_id})).scalar_one_or_none()
    if content is None:
        raise RefusedError("artifact.none", f"artifact {artifact_id} is not in the ledger any more")
    return tx.vault.open(content, context(artifact_id))


async def _documents(tx: Tx, ids: Collection[UUID]) -> dict[UUID, StoredDocument]:
    keys = {"keys": encode(ids), "low": min(ids), "high": max(ids)}
    rows = await tx.connection.execute(_select_documents(tx.dialect), keys)
    return {
        row.id: StoredDocument(row.id, row.kind, row.sha256, row.size, row.payload_id, row.created_at) for row in rows
    }


async def _token(tx: Tx, key: TokenKeyHash) -> TokenIdentity | None:
    row = (await tx.connection.execute(_select_token(), {"key": key})).one_or_none()
    if row is None:
        return None
    return TokenIdentity(
        environment=row.environment,
        sts=row.sts,
        applies_to=row.applies_to,
        credential=row.credential,
        second_party=row.second_party,
        software_id=row.software_id,
        claims=tuple(row.claims),
        key_size=row.key_size,
        assertion_id=row.assertion_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


@cache
def _content() -> sa.Select[Any]:
    return sa.select(artifact.c.content).where(artifact.c.id == sa.bindparam("id", type_=artifact.c.id.type))


@cache
def _select_documents(dialect: Dialect) -> sa.Select[Any]:
    wanted = ("id", "kind", "sha256", "size", "payload_id", "created_at")
    low, high = sa.bindparam("low", type_=artifact.c.id.type), sa.bindparam("high", type_=artifact.c.id.type)
    # The bounds add nothing to the keys but let PostgreSQL leave out all other months.
    return sa.select(*(artifact.c[name] for name in wanted)).where(
        among(dialect, artifact.c.id), artifact.c.id.between(low, high)
    )


@cache
def _select_token() -> sa.Select[Any]:
    # Never the assertion or the proof key: what is not read cannot get into evidence.
    wanted = (
        "environment",
        "sts",
        "applies_to",
        "credential",
        "second_party",
        "software_id",
        "claims",
        "key_size",
        "assertion_id",
        "created_at",
        "expires_at",
    )
    return sa.select(*(security_token.c[name] for name in wanted)).where(
        security_token.c.key_hash == sa.bindparam("key", type_=sa.Text)
    )
