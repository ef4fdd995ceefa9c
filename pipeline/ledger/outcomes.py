"""What the agency said: message events and attachments, one row each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, encode, insert_batch
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import attachment, message_event
from pipeline.lodgment.outcome import Attachment, MessageEvent, Outcome, Severity


async def add(tx: Tx, entries: Sequence[tuple[UUID, UUID, Outcome]], now: datetime) -> None:
    """Write the events and attachments of (lodgment id, attempt id, outcome), once for each attempt."""
    events = [row for entry in entries for row in _event_rows(*entry, now)]
    attachments = [row for entry in entries for row in _attachment_rows(*entry, now)]
    if events:
        await tx.connection.execute(_add(tx.dialect, message_event), {"batch": encode(events)})
    if attachments:
        await tx.connection.execute(_add(tx.dialect, attachment), {"batch": encode(attachments)})


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """A message event, with the attempt whose reply brought it and when that was written down."""

    event: MessageEvent
    attempt_id: UUID
    recorded_at: datetime


async def of(tx: Tx, lodgment_id: UUID) -> list[MessageEvent]:
    """A lodgment's message events: by attempt, in the agency's order."""
    return [one.event for one in await recorded(tx, lodgment_id)]


async def recorded(tx: Tx, lodgment_id: UUID) -> list[RecordedEvent]:
    """The same, with where each comes from."""
    rows = await tx.connection.execute(_of(message_event), {"lodgment_id": lodgment_id})
    return [RecordedEvent(_event(row), row.attempt_id, row.recorded_at) for row in rows]


async def attachments_of(tx: Tx, lodgment_id: UUID) -> list[Attachment]:
    """Metadata of the documents that the agency made available for a lodgment."""
    rows = await tx.connection.execute(_of(attachment), {"lodgment_id": lodgment_id})
    return [Attachment(row.document_type, row.name, row.description, row.url, row.document_number) for row in rows]


def _event(row: Row[Any]) -> MessageEvent:
    return MessageEvent(
        row.code, Severity(row.severity), row.description, row.location, tuple(row.details), row.payee, row.record
    )


@cache
def _add(dialect: Dialect, table: sa.Table) -> sa.Executable:
    return insert_batch(dialect, table, "id")


@cache
def _of(table: sa.Table) -> sa.Select[Any]:
    lodgment_id = sa.bindparam("lodgment_id", type_=table.c.lodgment_id.type)
    return sa.select(table).where(table.c.lodgment_id == lodgment_id).order_by(table.c.attempt_id, table.c.ordinal)


def _event_rows(lodgment_id: UUID, attempt_id: UUID, outcome: Outcome, now: datetime) -> list[dict[str, object]]:
    return [
        {
            "id": _derived_id(attempt_id, "event", ordinal),
            "lodgment_id": lodgment_id,
            "attempt_id": attempt_id,
            "ordinal": ordinal,
            "code": event.code,
            "severity": event.severity,
            "description": event.description,
            "location": event.location,
            "details": event.details,
            "recorded_at": now,
            "payee": event.payee,
            "record": event.record,
        }
        for ordinal, event in enumerate(outcome.events)
    ]


def _attachment_rows(lodgment_id: UUID, attempt_id: UUID, outcome: Outcome, now: datetime) -> list[dict[str, object]]:
    return [
        {
            "id": _derived_id(attempt_id, "attachment", ordinal),
            "lodgment_id": lodgment_id,
            "attempt_id": attempt_id,
            "ordinal": ordinal,
            "document_type": item.document_type,
            "name": item.name,
            "description": item.description,
            "url": item.url,
            "document_number": item.document_number,
            "recorded_at": now,
        }
        for ordinal, item in enumerate(outcome.attachments)
    ]


def _derived_id(attempt_id: UUID, kind: str, ordinal: int) -> UUID:
    """The same id for the same item of an attempt, however often it is written: a unique key that partitioning allows.

    The attempt's time and UUIDv7 marks stay, so that it falls into the attempt's month; the rest is a hash.
    """
    digest = hashlib.sha256(b"%s %s %d" % (attempt_id.bytes, kind.encode(), ordinal)).digest()
    marks = 0xF << 76 | 0x3 << 62
    kept = ~((1 << 80) - 1) | marks
    return UUID(int=attempt_id.int & kept | int.from_bytes(digest[:10]) & ~marks)
