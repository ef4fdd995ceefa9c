"""Lodgments: taken in once, moved by guarded updates, found again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode, insert_batch, recordset, storable
from pipeline.ledger.lodgment_rows import CHANGING, COLUMNS, NewLodgment, changing, lodgment_of, new_row
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import NOT_YET_WARM, UNDER_WAY, WAITING_FOR_TOKEN, lodgment
from pipeline.lodgment.lodgment import NOT_BEFORE, Lodgment
from pipeline.lodgment.references import TokenKeyHash
from pipeline.lodgment.states import State

FIND_LIMIT = 20
_WINDOW = 10
"""Among so many times what a sweep takes, the earliest due dates are looked for: a bounded reading, also of a backlog
of hundreds of thousands."""
_PREFIX_LENGTH = 8


@dataclass(frozen=True, slots=True)
class JobDocument:
    """What the producer said, for `explain`."""

    job: str
    labels: Mapping[str, str]


async def known_jobs(tx: Tx, job_ids: Collection[str]) -> dict[str, Lodgment]:
    """The lodgments of those jobs that were taken in before, by job id."""
    rows = await tx.connection.execute(_select_among(tx.dialect, "job_id"), {"keys": encode(job_ids)})
    return {found.job_id: found for found in map(lodgment_of, rows)}


async def add(tx: Tx, new: Sequence[NewLodgment]) -> set[UUID]:
    """Take in new lodgments; the ids of those whose job id was not known. Of two that race, one is taken."""
    if not new:
        return set()
    # Sorted, so that two batches with the same jobs wait for each other instead of deadlocking.
    batch = [new_row(item) for item in sorted(new, key=lambda item: item.lodgment.job_id)]
    rows = await tx.connection.execute(_add(tx.dialect), {"batch": encode(batch)})
    return set(rows.scalars())


async def load(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Lodgment]:
    """Lodgments by id; unknown ids are left out."""
    rows = await tx.connection.execute(_select_among(tx.dialect, "id"), {"keys": encode(ids)})
    return {found.id: found for found in map(lodgment_of, rows)}


async def find(tx: Tx, text: str) -> list[Lodgment]:
    """Lodgments whose id, reference or job id is `text`, else those whose id begins with it (8 characters or more).

    At most 20, oldest first: more than one is for a person to choose from.
    """
    low, high = _prefix_bounds(text) or (None, None)
    exact = {"id": low if low == high else None, "text": storable(text)}
    rows = (await tx.connection.execute(_exactly(), exact)).all()
    if not rows and low is not None:
        rows = (await tx.connection.execute(_between(), {"low": low, "high": high})).all()
    return [lodgment_of(row) for row in rows]


async def move(tx: Tx, moves: Sequence[tuple[Lodgment, Lodgment]]) -> set[UUID]:
    """Write each `after` where the row still is what `before` says, by version and state; the ids of those written.

    `after` is `before.moved(...)`, with further fields replaced where they change. An id left out was moved by another.
    """
    if not moves:
        return set()
    # Sorted for the same reason as in `add`.
    batch = [_change(before, after) for before, after in sorted(moves, key=lambda pair: pair[0].id)]
    keys = encode([before.id for before, _ in moves])
    rows = await tx.connection.execute(_move(tx.dialect), {"batch": encode(batch), "keys": keys})
    return set(rows.scalars())


async def due(tx: Tx, now: datetime, limit: int) -> list[Lodgment]:
    """What is to be looked at again, longest due first; locked on PostgreSQL, without what another scheduler has.

    Where more is due, the earliest due dates among the thousands that are longest due go first.
    """
    bounds = {"now": now, "limit": limit}
    found = [lodgment_of(row) for row in await tx.connection.execute(_due(), bounds)]
    if len(found) < limit:
        return found
    urgent = await tx.connection.execute(_due_first(), {**bounds, "window": limit * _WINDOW})
    first = {row.id: row for row in map(lodgment_of, urgent)}
    return [*first.values(), *(row for row in found if row.id not in first)][:limit]


async def waiting_for_token(tx: Tx, keys: Collection[TokenKeyHash], limit: int) -> list[Lodgment]:
    """Lodgments parked until the tokens of these keys arrive, oldest first."""
    bounds = {"keys": encode(sorted(keys)), "limit": limit}
    rows = await tx.connection.execute(_waiting_for_token(tx.dialect), bounds)
    return [lodgment_of(row) for row in rows]


async def ahead(tx: Tx, until: datetime, limit: int) -> list[Lodgment]:
    """Lodgments that wait for a time before `until` and for which no token is bespoken, earliest first; locked."""
    rows = await tx.connection.execute(_ahead(), {"until": until, "limit": limit})
    return [lodgment_of(row) for row in rows]


async def note_token_keys(tx: Tx, keys: Mapping[UUID, TokenKeyHash]) -> None:
    """Note that the tokens of lodgments that wait for their time are bespoken; they stay where they are."""
    batch = [{"id": lodgment_id, "token_key": key} for lodgment_id, key in sorted(keys.items())]
    await tx.connection.execute(_note_token_keys(tx.dialect), {"batch": encode(batch)})


async def postpone(tx: Tx, ids: Collection[UUID], until: datetime) -> None:
    """Look at these again at `until`; where they are does not change. Final and held ones sleep on."""
    await tx.connection.execute(_postpone(tx.dialect), {"keys": encode(ids), "until": until})


async def under_way(tx: Tx, most: int) -> int:
    """How many are on their way to the agency and have not begun to be sent; counted up to `most`."""
    return int((await tx.connection.execute(_under_way(), {"most": most})).scalar_one())


async def wake_everything(tx: Tx, now: datetime) -> int:
    """Make due whatever a process that is gone had in hand; how many. Only for the embedded profile."""
    return (await tx.connection.execute(_wake(), {"now": now})).rowcount


async def environment(tx: Tx) -> str | None:
    """The environment that this ledger is of; None while it is empty."""
    return (await tx.connection.scalars(_environment())).one_or_none()


async def document(tx: Tx, lodgment_id: UUID) -> JobDocument | None:
    """What the producer said of one lodgment."""
    row = (await tx.connection.execute(_document(), {"id": lodgment_id})).one_or_none()
    return None if row is None else JobDocument(row.job, row.labels)


async def labels(tx: Tx, lodgment_id: UUID) -> dict[str, str]:
    """The producer's labels, for the outcome event; empty when the lodgment is unknown."""
    found = await document(tx, lodgment_id)
    return {} if found is None else dict(found.labels)


@cache
def _select_among(dialect: Dialect, name: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(*COLUMNS).where(among(dialect, lodgment.c[name]))


@cache
def _add(dialect: Dialect) -> sa.Executable:
    return insert_batch(dialect, lodgment, "job_id").returning(lodgment.c.id)


@cache
def _exactly() -> sa.Executable:
    text = sa.bindparam("text", type_=sa.Text)
    by_id = lodgment.c.id == sa.bindparam("id", type_=lodgment.c.id.type)
    return (
        sa.select(*COLUMNS)
        .where(sa.or_(by_id, lodgment.c.reference == text, lodgment.c.job_id == text))
        .order_by(lodgment.c.id)
        .limit(FIND_LIMIT)
    )


@cache
def _between() -> sa.Executable:
    low, high = sa.bindparam("low", type_=lodgment.c.id.type), sa.bindparam("high", type_=lodgment.c.id.type)
    return sa.select(*COLUMNS).where(lodgment.c.id.between(low, high)).order_by(lodgment.c.id).limit(FIND_LIMIT)


@cache
def _move(dialect: Dialect) -> sa.Executable:
    guards = (sa.Column("from_version", sa.Integer), sa.Column("from_state", sa.Text))
    rows = recordset(dialect, (lodgment.c.id, *guards, *(lodgment.c[name] for name in CHANGING)))
    return (
        sa.update(lodgment)
        .values({name: rows.c[name] for name in CHANGING})
        .where(
            # Adds nothing but an index to look in: of a function's rows the planner knows nothing, and may read all.
            among(dialect, lodgment.c.id),
            lodgment.c.id == rows.c.id,
            lodgment.c.version == rows.c.from_version,
            lodgment.c.state == rows.c.from_state,
        )
        .returning(lodgment.c.id)
    )


@cache
def _due() -> sa.Executable:
    return (
        sa.select(*COLUMNS)
        .where(lodgment.c.due_at <= sa.bindparam("now", type_=lodgment.c.due_at.type))
        .order_by(lodgment.c.due_at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


@cache
def _due_first() -> sa.Executable:
    """Those with a due date, from among what is longest due."""
    due_by = lodgment.c.due_at <= sa.bindparam("now", type_=lodgment.c.due_at.type)
    window = (
        sa.select(lodgment.c.id, lodgment.c.due_date, lodgment.c.due_at)
        .where(due_by)
        .order_by(lodgment.c.due_at)
        .limit(sa.bindparam("window", type_=sa.Integer))
        .subquery("longest_due")
    )
    chosen = (
        sa.select(window.c.id)
        .where(window.c.due_date.is_not(None))
        .order_by(window.c.due_date, window.c.due_at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
    return (
        sa.select(*COLUMNS)
        .where(lodgment.c.id.in_(chosen), due_by)
        .order_by(lodgment.c.due_date, lodgment.c.due_at)
        .with_for_update(skip_locked=True)
    )


@cache
def _waiting_for_token(dialect: Dialect) -> sa.Executable:
    return (
        sa.select(*COLUMNS)
        .where(among(dialect, lodgment.c.token_key), WAITING_FOR_TOKEN)
        .order_by(lodgment.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


@cache
def _ahead() -> sa.Executable:
    return (
        sa.select(*COLUMNS)
        .where(NOT_YET_WARM, lodgment.c.due_at <= sa.bindparam("until", type_=lodgment.c.due_at.type))
        .order_by(lodgment.c.due_at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


@cache
def _note_token_keys(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, (lodgment.c.id, lodgment.c.token_key))
    return (
        sa.update(lodgment)
        .values(token_key=rows.c.token_key)
        .where(lodgment.c.id == rows.c.id, lodgment.c.state == State.PARKED, lodgment.c.reason_code == NOT_BEFORE)
    )


@cache
def _postpone(dialect: Dialect) -> sa.Executable:
    until = sa.bindparam("until", type_=lodgment.c.due_at.type)
    return sa.update(lodgment).values(due_at=until).where(among(dialect, lodgment.c.id), lodgment.c.due_at.is_not(None))


@cache
def _under_way() -> sa.Select[Any]:
    some = sa.select(lodgment.c.id).where(UNDER_WAY).limit(sa.bindparam("most", type_=sa.Integer)).subquery()
    return sa.select(sa.func.count()).select_from(some)


@cache
def _wake() -> sa.Executable:
    now = sa.bindparam("now", type_=lodgment.c.due_at.type)
    in_hand = lodgment.c.state.in_((State.RECEIVED, State.AUTHORISED, State.SEALED, State.SENDING))
    return sa.update(lodgment).values(due_at=now).where(lodgment.c.due_at > now, sa.or_(in_hand, WAITING_FOR_TOKEN))


@cache
def _environment() -> sa.Select[Any]:
    return sa.select(lodgment.c.environment).order_by(lodgment.c.id.desc()).limit(1)


@cache
def _document() -> sa.Executable:
    return sa.select(lodgment.c.job, lodgment.c.labels).where(
        lodgment.c.id == sa.bindparam("id", type_=lodgment.c.id.type)
    )


def _prefix_bounds(text: str) -> tuple[UUID, UUID] | None:
    digits = text.replace("-", "").lower()
    if not _PREFIX_LENGTH <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def _change(before: Lodgment, after: Lodgment) -> dict[str, object]:
    return {"id": before.id, "from_version": before.version, "from_state": before.state, **changing(after)}
