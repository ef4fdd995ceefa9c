"""Attempts: written before the socket opens, completed once, never changed again."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, among, encode, insert_batch, recordset
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import attempt
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import WORKER_LOST, Attempt, Purpose

_COMPLETING = tuple(attempt.c.keys())[attempt.c.keys().index("wire_started_at") :]
"""What `finish` writes; in the table these columns come last."""


async def add(tx: Tx, attempts: Sequence[Attempt]) -> None:
    """Write attempts; one that is there already stays as it is."""
    if attempts:
        await tx.connection.execute(_add(tx.dialect), {"batch": encode([_row(item) for item in attempts])})


async def finish(tx: Tx, attempts: Sequence[Attempt]) -> set[UUID]:
    """Complete attempts that are not complete yet, from `wire_started_at` on; the ids of those written.

    A worker that was given up for lost may still bring the reply: it takes the place of the verdict.
    """
    if not attempts:
        return set()
    ids = [item.id for item in attempts]
    keys = {"keys": encode(ids), "low": min(ids), "high": max(ids)}
    batch = {"batch": encode([_completion(item) for item in attempts]), **keys}
    return set((await tx.connection.execute(_finish(tx.dialect), batch)).scalars())


async def load(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Attempt]:
    """Attempts by id; unknown ids are left out."""
    if not ids:
        return {}
    keys = {"keys": encode(ids), "low": min(ids), "high": max(ids)}
    rows = await tx.connection.execute(_load(tx.dialect), keys)
    return {found.id: found for found in map(attempt_of, rows)}


async def of(tx: Tx, lodgment_id: UUID) -> list[Attempt]:
    """A lodgment's attempts, in order."""
    return [attempt_of(row) for row in await tx.connection.execute(_of(), {"lodgment_id": lodgment_id})]


@cache
def _add(dialect: Dialect) -> sa.Executable:
    return insert_batch(dialect, attempt, "id")


@cache
def _finish(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, [attempt.c.id, *(attempt.c[name] for name in _COMPLETING)])
    return (
        sa.update(attempt)
        .values({name: rows.c[name] for name in _COMPLETING})
        .where(
            among(dialect, attempt.c.id),  # see `lodgments._move`
            attempt.c.id == rows.c.id,
            _within(),
            sa.or_(attempt.c.finished_at.is_(None), attempt.c.failure_code == WORKER_LOST),
        )
        .returning(attempt.c.id)
    )


@cache
def _load(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(attempt).where(among(dialect, attempt.c.id), _within())


@cache
def _of() -> sa.Executable:
    lodgment_id = sa.bindparam("lodgment_id", type_=attempt.c.lodgment_id.type)
    return sa.select(attempt).where(attempt.c.lodgment_id == lodgment_id).order_by(attempt.c.number)


def _within() -> sa.ColumnElement[bool]:
    # The bounds add nothing to the keys but let PostgreSQL leave out all other months.
    low, high = sa.bindparam("low", type_=attempt.c.id.type), sa.bindparam("high", type_=attempt.c.id.type)
    return attempt.c.id.between(low, high)


def _row(item: Attempt) -> dict[str, object]:
    return {
        "lodgment_id": item.lodgment_id,
        "number": item.number,
        "purpose": item.purpose,
        "worker": item.worker,
        "url": item.url,
        "envelope_id": item.envelope_id,
        "started_at": item.started_at,
        **_completion(item),
    }


def _completion(item: Attempt) -> dict[str, object]:
    failure = item.failure
    return {
        "id": item.id,
        "wire_started_at": item.wire_started_at,
        "finished_at": item.finished_at,
        "http_status": item.http_status,
        "reply_id": item.reply_id,
        "content_type": item.content_type,
        "failure_kind": failure.kind if failure else None,
        "failure_code": failure.code if failure else None,
        "failure_detail": failure.detail if failure else None,
        "failure_advice": failure.advice if failure else None,
        "failure_who": failure.who if failure else None,
        "failure_blast": failure.blast if failure else None,
        "failure_available_after": failure.available_after if failure else None,
    }


def attempt_of(row: Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        lodgment_id=row.lodgment_id,
        number=row.number,
        purpose=Purpose(row.purpose),
        worker=row.worker,
        url=row.url,
        envelope_id=row.envelope_id,
        started_at=row.started_at,
        wire_started_at=row.wire_started_at,
        finished_at=row.finished_at,
        http_status=row.http_status,
        reply_id=row.reply_id,
        content_type=row.content_type,
        failure=_failure(row) if row.failure_kind else None,
    )


def _failure(row: Row[Any]) -> Failure:
    return Failure(
        kind=FailureClass(row.failure_kind),
        code=row.failure_code,
        detail=row.failure_detail,
        advice=row.failure_advice,
        who=Party(row.failure_who),
        blast=Blast(row.failure_blast),
        available_after=row.failure_available_after,
    )
