"""Jobs that wait until it is their sender's turn, before anything is done with them; sealed, as they hold documents."""

import asyncio
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, among, as_arrays, encode, insert_arrays, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import sender_share, waiting_job
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.shares import Line

_LEVEL = 1
"""Of compression: a job is read again soon."""
_SUSPECT = 2
"""What was in so many hands is given out alone: it may be what those processes died of, and takes no other with it."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job as it came. `tag` is its place in the line; `size` is in bytes, with a document that is passed by
    reference.

    `takes` is how often it was given out and not given back. Of one that is `damaged`, `body` is what is stored.
    """

    id: UUID
    sender_id: str
    job_id: str | None
    tag: datetime
    size: int
    received_at: datetime
    message_id: str
    body: bytes = field(repr=False)
    takes: int = 0
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class WaitingSender:
    """How many jobs of one sender wait, and since when."""

    sender_id: str
    count: int
    oldest: datetime


async def add(tx: Tx, jobs: Sequence[WaitingJob]) -> None:
    """Let these wait."""
    if not jobs:
        return
    rows = await asyncio.to_thread(_pack, tx.vault, jobs)
    if tx.dialect is Dialect.SQLITE:
        await tx.connection.execute(_insert(), rows)
    else:
        await tx.connection.execute(_insert_arrays(), as_arrays(rows))


async def line(tx: Tx, senders: Collection[str]) -> Line:
    """Who waits, as far as it concerns these senders, all of whom have a share."""
    rows = (await tx.connection.execute(_line(tx.dialect), {"keys": encode(sorted(senders))})).all()
    return Line(rows[0].first if rows else None, frozenset(row.sender_id for row in rows if row.waits))


async def any_waits(tx: Tx) -> bool:
    """Whether any job waits, or is in an intake's hands."""
    return (await tx.connection.execute(_any())).first() is not None


async def take(tx: Tx, now: datetime, until: datetime, limit: int, size: int) -> list[WaitingJob]:
    """The first of the line, up to `size` bytes and one job beyond; nobody else gets them before `until`."""
    rows = (await tx.connection.execute(_next(), {"now": now, "limit": limit})).all()
    taken: list[Row[Any]] = []
    for row in rows:
        if taken and row.takes >= _SUSPECT:
            break
        taken.append(row)
        size -= row.size
        if size <= 0 or row.takes >= _SUSPECT:
            break
    if taken:
        await tx.connection.execute(_taking(tx.dialect), {"keys": encode([row.id for row in taken]), "until": until})
    return [_job(tx.vault, row) for row in taken]


async def give_back(tx: Tx, ids: Collection[UUID]) -> None:
    """These are in nobody's hands any more, as if they had not been given out."""
    await tx.connection.execute(_giving_back(tx.dialect), {"keys": encode(ids)})


async def give_all_back(tx: Tx) -> None:
    """None of them is in anybody's hands: for a process that knows that it is alone, and that others died."""
    await tx.connection.execute(sa.update(waiting_job).where(_taken()).values(taken_until=None))


async def remove(tx: Tx, ids: Collection[UUID]) -> None:
    """These were taken in, refused, or are kept elsewhere."""
    await tx.connection.execute(_remove(tx.dialect), {"keys": encode(ids)})


async def in_hands_until(tx: Tx) -> datetime | None:
    """When nobody has any of them in hand any more, if nobody takes one meanwhile."""
    found: datetime | None = (await tx.connection.scalars(_in_hands())).one()
    return found


async def standing(tx: Tx, limit: int) -> list[WaitingSender]:
    """Whose jobs wait, the most first."""
    rows = await tx.connection.execute(_standing(), {"limit": limit})
    return [WaitingSender(row.sender_id, row.number, row.oldest) for row in rows]


async def known(tx: Tx, job_ids: Collection[str]) -> set[str]:
    """Which of these jobs wait."""
    return set((await tx.connection.execute(_known(tx.dialect), {"keys": encode(job_ids)})).scalars())


@cache
def _insert() -> sa.Insert:
    return sa.insert(waiting_job)


@cache
def _insert_arrays() -> sa.Insert:
    return insert_arrays(waiting_job)


@cache
def _line(dialect: Dialect) -> sa.Select[Any]:
    # Asked of each sender, not of each job: a bureau may have hundreds of thousands here.
    waits = sa.exists().where(waiting_job.c.sender_id == sender_share.c.sender_id)
    first = sa.select(sa.func.min(waiting_job.c.tag)).scalar_subquery()
    return sa.select(sender_share.c.sender_id, waits.label("waits"), first.label("first")).where(
        among(dialect, sender_share.c.sender_id)
    )


@cache
def _any() -> sa.Select[Any]:
    return sa.select(waiting_job.c.id).order_by(waiting_job.c.tag).limit(1)


@cache
def _next() -> sa.Select[Any]:
    now = sa.bindparam("now", type_=waiting_job.c.taken_until.type)
    return (
        sa.select(waiting_job)
        .where(sa.or_(waiting_job.c.taken_until.is_(None), waiting_job.c.taken_until <= now))
        .order_by(waiting_job.c.tag, waiting_job.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


@cache
def _taking(dialect: Dialect) -> sa.Update:
    until = sa.bindparam("until", type_=waiting_job.c.taken_until.type)
    return _change(dialect).values(taken_until=until, takes=waiting_job.c.takes + 1)


@cache
def _giving_back(dialect: Dialect) -> sa.Update:
    return _change(dialect).values(taken_until=None, takes=waiting_job.c.takes - 1)


def _change(dialect: Dialect) -> sa.Update:
    return sa.update(waiting_job).where(among(dialect, waiting_job.c.id))


@cache
def _remove(dialect: Dialect) -> sa.Delete:
    return sa.delete(waiting_job).where(among(dialect, waiting_job.c.id))


@cache
def _in_hands() -> sa.Select[Any]:
    return sa.select(sa.func.max(waiting_job.c.taken_until)).where(_taken())


@cache
def _standing() -> sa.Select[Any]:
    number = sa.func.count().label("number")
    oldest = sa.func.min(waiting_job.c.received_at).label("oldest")
    return (
        sa.select(waiting_job.c.sender_id, number, oldest)
        .group_by(waiting_job.c.sender_id)
        .order_by(number.desc(), waiting_job.c.sender_id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


@cache
def _known(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(waiting_job.c.job_id).where(among(dialect, waiting_job.c.job_id)).distinct()


def _taken() -> sa.ColumnElement[bool]:
    return waiting_job.c.taken_until.is_not(None)


def _pack(vault: Vault, jobs: Sequence[WaitingJob]) -> list[dict[str, object]]:
    return [
        {
            "id": one.id,
            "sender_id": storable(one.sender_id),
            "job_id": one.job_id and storable(one.job_id),
            "tag": one.tag,
            "size": one.size,
            "received_at": one.received_at,
            "taken_until": None,
            "takes": 0,
            "message_id": storable(one.message_id),
            "body": vault.seal(zlib.compress(one.body, _LEVEL), _context(one.id)),
        }
        for one in jobs
    ]


def _job(vault: Vault, row: Row[Any]) -> WaitingJob:
    body, damaged = bytes(row.body), False
    try:
        body = zlib.decompress(vault.open(body, _context(row.id)))
    except RefusedError:
        damaged = True
    return WaitingJob(
        row.id,
        row.sender_id,
        row.job_id,
        row.tag,
        row.size,
        row.received_at,
        row.message_id,
        body,
        row.takes,
        damaged,
    )


def _context(job_id: UUID) -> bytes:
    return b"waiting job " + job_id.bytes
